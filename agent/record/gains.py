"""What the owner lets the operator know of its gains: three losses an adapter, noted before they are sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.record.database import RecordDatabase


@dataclass(frozen=True)
class Gain:
    """Three held-out losses on the owner's rows, rounded as they leave.

    Args:
        campaign_id: the campaign.
        adapter: SHA-256 of the adapter.
        number: the adapter's.
        base: loss of the bare base model.
        alone: loss of the model that this owner trained alone.
        loss: loss of the adapter.
        sent_at: when it left; None if it has not.
    """

    campaign_id: str
    adapter: str
    number: int
    base: float
    alone: float
    loss: float
    sent_at: datetime | None = None


class GainRecord:
    """The table of gains."""

    def __init__(self, database: RecordDatabase) -> None:
        self._database = database

    def note(self, gains: Sequence[Gain]) -> None:
        """Note gains that are about to be sent, in the place of earlier ones of the same adapters."""
        now = datetime.now(UTC).isoformat()
        rows = [(each.campaign_id, each.adapter, each.number, each.base, each.alone, each.loss, now) for each in gains]
        with self._database.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO gains VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", rows)

    def sent(self, gain: Gain) -> None:
        """Note that a gain left."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE gains SET sent_at = ? WHERE campaign = ? AND adapter = ?",
                (datetime.now(UTC).isoformat(), gain.campaign_id, gain.adapter),
            )

    def drop_unsent(self) -> None:
        """Delete gains that did not leave, of all campaigns: what was measured under an earlier consent never does."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM gains WHERE sent_at IS NULL")

    def of_campaign(self, campaign_id: str) -> list[Gain]:
        """The gains of a campaign, by the number of the adapter."""
        query = (
            "SELECT campaign, adapter, number, base, alone, loss, sent_at FROM gains WHERE campaign = ? ORDER BY number"
        )
        with self._database.read() as connection:
            rows = connection.execute(query, (campaign_id,)).fetchall()
        return [
            Gain(
                campaign_id=row["campaign"],
                adapter=row["adapter"],
                number=row["number"],
                base=row["base"],
                alone=row["alone"],
                loss=row["loss"],
                sent_at=datetime.fromisoformat(row["sent_at"]) if row["sent_at"] else None,
            )
            for row in rows
        ]
