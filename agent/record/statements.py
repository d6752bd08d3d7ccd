"""The tables of signed statements that the coordinator sent, and of its signing keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.record.database import RecordDatabase
from shared.signing.keys import PublicKey
from shared.signing.statements import digest_of
from shared.wire.statements import SignedStatement

_MAX_CONTRADICTIONS = 20
"""The most contradictions of a campaign that are kept: the first ones."""


@dataclass(frozen=True)
class Contradiction:
    """A statement that was refused, kept as evidence: whoever signed it cannot deny it.

    Args:
        at: when it came.
        reason: why it was refused.
        text: the statement.
        key: by which it is signed.
        signature: of the text.
    """

    at: datetime
    reason: str
    text: str
    key: PublicKey
    signature: str


class StatementRecord:
    """The tables of statements, contradictions and signing keys, as far as they come from one pinned key.

    Args:
        database: the record's.
        pinned: the key of the enrolment. After another one, campaigns are followed from their beginning again.
    """

    def __init__(self, database: RecordDatabase, pinned: PublicKey) -> None:
        self._database = database
        self.pinned = pinned

    def of_campaign(self, campaign_id: str) -> list[str]:
        """The texts of a campaign's statements that hold, in the order of their numbers."""
        query = "SELECT text FROM statements WHERE pinned = ? AND campaign = ? AND NOT replaced ORDER BY number"
        with self._database.read() as connection:
            return [text for (text,) in connection.execute(query, (self.pinned, campaign_id))]

    def add(self, campaign_id: str, first: int, statements: Sequence[SignedStatement]) -> None:
        """Store statements that follow each other. Those that they replace stay, as what was said before.

        Args:
            campaign_id: the campaign.
            first: number of the first.
            statements: they were checked.
        """
        rows = [
            (self.pinned, campaign_id, first + place, digest_of(each.text), each.text, each.key, each.signature)
            for place, each in enumerate(statements)
        ]
        with self._database.write() as connection:
            connection.execute(
                "UPDATE statements SET replaced = TRUE WHERE pinned = ? AND campaign = ? AND number >= ?",
                (self.pinned, campaign_id, first),
            )
            connection.executemany("INSERT OR REPLACE INTO statements VALUES (?, ?, ?, ?, ?, ?, ?, FALSE)", rows)

    def contradict(self, campaign_id: str, reason: str, statement: SignedStatement) -> None:
        """Keep a statement that was refused, once."""
        facts = (statement.text, statement.key, statement.signature)
        with self._database.write() as connection:
            known = "SELECT COUNT(*), COALESCE(SUM(text = ?), 0) FROM contradictions WHERE pinned = ? AND campaign = ?"
            [count, same] = connection.execute(known, (statement.text, self.pinned, campaign_id)).fetchone()
            if same or count >= _MAX_CONTRADICTIONS:
                return
            connection.execute(
                "INSERT INTO contradictions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (self.pinned, campaign_id, datetime.now(UTC).isoformat(), reason, *facts),
            )

    def contradictions(self, campaign_id: str) -> list[Contradiction]:
        """The statements of a campaign that were refused, the earliest first."""
        columns, where = "at, reason, text, key, signature", "pinned = ? AND campaign = ?"
        query = f"SELECT {columns} FROM contradictions WHERE {where} ORDER BY rowid"  # noqa: S608
        with self._database.read() as connection:
            rows = connection.execute(query, (self.pinned, campaign_id)).fetchall()
        return [Contradiction(datetime.fromisoformat(at), *rest) for at, *rest in rows]

    def later_keys(self) -> list[tuple[PublicKey, datetime]]:
        """The keys that followed the pinned one, each with the time when this agent learnt of it."""
        query = "SELECT key, at FROM signing_keys WHERE pinned = ? ORDER BY rowid"
        with self._database.read() as connection:
            return [(key, datetime.fromisoformat(at)) for key, at in connection.execute(query, (self.pinned,))]

    def follow(self, keys: Sequence[PublicKey]) -> None:
        """Store the keys that followed, the earliest first."""
        now = datetime.now(UTC).isoformat()
        with self._database.write() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO signing_keys VALUES (?, ?, ?)", [(self.pinned, key, now) for key in keys]
            )
