"""What was measured here in pieces of work: in full, whatever of it left. No request carries it.

A rollback or a restored coordinator has rounds done again, in another history. From the first round on that was begun
in a later one, what an earlier history measured no longer counts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.record.bookings import Work, WorkKind
from agent.record.database import RecordDatabase

_STANDING = """
SELECT m.round, m.history, b.adapter, m.at, m.metrics FROM measured AS m
JOIN bookings AS b USING (campaign, kind, round, history)
WHERE m.campaign = ? AND m.kind = ? AND NOT EXISTS (
    SELECT 1 FROM bookings AS later
    WHERE later.campaign = m.campaign AND later.history > m.history
    AND (later.round < m.round OR (later.round = m.round AND (later.kind = 'train' OR later.kind = m.kind)))
)
ORDER BY m.round, m.history
"""
"""A training of round r in a later history makes adapter r anew; an evaluation may also be of the adapter of before."""


@dataclass(frozen=True)
class Measurement:
    """What one piece of work measured.

    Args:
        round: the round, or the number of the adapter that was evaluated.
        history: number of the campaign's history.
        adapter: SHA-256 of the adapter that was evaluated, or that the training started from.
        at: when it was measured.
        metrics: the values by name, as the training child gave them.
    """

    round: int
    history: int
    adapter: str
    at: datetime
    metrics: Mapping[str, float]


class MeasuredRecord:
    """The table of what was measured."""

    def __init__(self, database: RecordDatabase) -> None:
        self._database = database

    def keep(self, work: Work, metrics: Mapping[str, float]) -> None:
        """Store what a piece of work measured. What is done again after a crash takes the place of its first try."""
        values = (*work.key, datetime.now(UTC).isoformat(), json.dumps(dict(metrics)))
        with self._database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO measured VALUES (?, ?, ?, ?, ?, ?)", values)

    def standing(self, campaign_id: str, kind: WorkKind) -> list[Measurement]:
        """What was measured in a campaign and still counts, by round."""
        with self._database.read() as connection:
            rows = connection.execute(_STANDING, (campaign_id, kind.value)).fetchall()
        return [
            Measurement(
                round=row["round"],
                history=row["history"],
                adapter=row["adapter"],
                at=datetime.fromisoformat(row["at"]),
                metrics=json.loads(row["metrics"]),
            )
            for row in rows
        ]
