"""What was done with the owner's rows, booked before the work. Nothing takes a booking back.

Bookings belong to a pool: a body of rows. Data sources that read the same file, or files of equal content, share one,
whatever their names are, in which campaign, and at which coordinator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from sqlite3 import Connection

from agent.ledger.files import Head
from agent.ledger.verification import Anchor
from agent.record.database import RecordDatabase
from shared import crash_points


class WorkKind(StrEnum):
    """The kinds of work whose results leave the machine."""

    TRAIN = "train"
    EVALUATE = "evaluate"


@dataclass(frozen=True)
class Work:
    """One piece of work, which is done once. A further request for it gets the answer of the first.

    Args:
        campaign_id: the campaign.
        kind: what is done.
        round: the round, or the number of the adapter that is evaluated.
        history: number of the campaign's history, in which a round is begun with one adapter.
        spec_sha256: digest of the specification by which it is done.
        adapter: SHA-256 of the adapter that the work starts from.
        reference: SHA-256 of the reference model's adapter; empty if there is none.
        broadcast: SHA-256 of the algorithm's broadcast; empty if there is none.
        client_number: the agent's in a training; None in an evaluation.
        steps: optimizer steps.
        n_rows: rows that are used, each as often as it is.
    """

    campaign_id: str
    kind: WorkKind
    round: int
    history: int
    spec_sha256: str
    adapter: str
    reference: str = ""
    broadcast: str = ""
    client_number: int | None = None
    steps: int = 0
    n_rows: int = 0

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What is done once: two pieces of work with one key are the same."""
        return (self.campaign_id, self.kind.value, self.round, self.history)


@dataclass(frozen=True)
class Totals:
    """Sums over bookings."""

    n_trainings: int = 0
    n_evaluations: int = 0
    steps: int = 0
    n_rows: int = 0


_SUMS = (
    "SELECT COALESCE(SUM(kind = 'train'), 0), COALESCE(SUM(kind = 'evaluate'), 0), COALESCE(SUM(steps), 0), "
    "COALESCE(SUM(CASE WHEN kind = 'train' THEN n_rows ELSE 0 END), 0) FROM bookings WHERE "
)
_WORK = "campaign, " + ", ".join(field.name for field in fields(Work)[1:])
"""The columns of a piece of work."""
_KEYS_AT_ONCE = 500
"""Keys in one query: SQLite bounds its parameters, and a folder may have many files."""
_KEY = "campaign = ? AND kind = ? AND round = ? AND history = ?"


class Bookings:
    """The table of bookings."""

    def __init__(self, database: RecordDatabase) -> None:
        self._database = database

    def pool_of(self, keys: Sequence[str]) -> int:
        """The pool of a data source, by everything that identifies its rows; a new one if no key is known.

        If the keys belong to several pools, those become one: they hold the same rows.
        """
        with self._database.write() as connection:
            found = _pools_with(connection, keys)
            if found:
                pool = found[0]
            else:
                [pool] = connection.execute("SELECT COALESCE(MAX(pool), 0) + 1 FROM pools").fetchone()
            for other in found[1:]:
                for table in ("pools", "bookings", "campaigns"):
                    connection.execute(f"UPDATE {table} SET pool = ? WHERE pool = ?", (pool, other))  # noqa: S608
            connection.executemany("INSERT OR IGNORE INTO pools VALUES (?, ?)", [(key, pool) for key in keys])
        return pool

    def pools_known(self, keys: Sequence[str]) -> list[int]:
        """The pools that any of the keys belongs to. They become one with the next campaign that uses the rows."""
        with self._database.read() as connection:
            return _pools_with(connection, keys)

    def book(self, pool: int, agent_id: str, work: Work, ledger: Head) -> None:
        """Book a piece of work, once however often it is begun.

        Args:
            pool: the body of rows that it uses.
            agent_id: the agent's id at the coordinator that asks.
            work: the work.
            ledger: the last entry of the ledger by now. Since bookings are kept for ever, it cannot be cut unseen.
        """
        crash_points.reach("agent: before booking")
        with self._database.write() as connection:
            connection.execute(
                f"INSERT OR IGNORE INTO bookings (at, pool, agent, ledger_entry, ledger_sha256, {_WORK}) "  # noqa: S608
                f"VALUES (?, ?, ?, ?, ?{', ?' * len(fields(Work))})",
                (
                    _now(),
                    pool,
                    agent_id,
                    ledger.n,
                    ledger.sha256,
                    *(getattr(work, field.name) for field in fields(Work)),
                ),
            )
            [latest] = connection.execute("SELECT MAX(id) FROM bookings").fetchone()
        self._database.mark(latest)
        crash_points.reach("agent: booked")

    def anchors(self) -> list[Anchor]:
        """The entries of the ledger that bookings name, in their order."""
        query = "SELECT id, ledger_entry, ledger_sha256 FROM bookings WHERE ledger_entry > 0 ORDER BY id"
        with self._database.read() as connection:
            rows = connection.execute(query).fetchall()
        return [Anchor(n, sha256, f"booking {number} of record.db") for number, n, sha256 in rows]

    def find(self, work: Work) -> Work | None:
        """The work as it was booked; None if it was not."""
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {_WORK} FROM bookings WHERE {_KEY}", work.key).fetchone()  # noqa: S608
        return Work(row[0], WorkKind(row[1]), *row[2:]) if row is not None else None

    def keep_result(self, work: Work, result: str) -> None:
        """Store the result of a piece of work, as JSON, unless one is stored."""
        with self._database.write() as connection:
            connection.execute(
                f"UPDATE bookings SET result = ? WHERE {_KEY} AND result IS NULL",  # noqa: S608
                (result, *work.key),
            )

    def result_of(self, work: Work) -> str | None:
        """The stored result of a piece of work; None if it was not finished."""
        with self._database.read() as connection:
            row = connection.execute(f"SELECT result FROM bookings WHERE {_KEY}", work.key).fetchone()  # noqa: S608
        return row[0] if row is not None else None

    def keep_norm(self, work: Work, norm: float) -> None:
        """Store the norm of a training's update, to compare later ones with."""
        with self._database.write() as connection:
            connection.execute(f"UPDATE bookings SET norm = ? WHERE {_KEY}", (norm, *work.key))  # noqa: S608

    def norms(self, campaign_id: str) -> dict[int, float]:
        """The norms of a campaign's updates by round, in the order of rounds. Of a round that was trained again, it is
        that of the last one."""
        query = (
            "SELECT round, norm FROM bookings WHERE campaign = ? AND kind = 'train' AND norm IS NOT NULL "
            "ORDER BY round, history"
        )
        with self._database.read() as connection:
            return {row["round"]: row["norm"] for row in connection.execute(query, (campaign_id,))}

    def furthest(self, campaign_id: str, kind: WorkKind) -> tuple[int, int]:
        """The latest history in which such work of the campaign was booked, and the highest round in it. (0, -1) if
        there is none."""
        query = "SELECT history, round FROM bookings WHERE campaign = ? AND kind = ? ORDER BY 1 DESC, 2 DESC LIMIT 1"
        with self._database.read() as connection:
            row = connection.execute(query, (campaign_id, kind.value)).fetchone()
        return (row[0], row[1]) if row is not None else (0, -1)

    def client_number(self, campaign_id: str, agent_id: str, history: int) -> int | None:
        """The client number with which this agent began to train in a history of a campaign; None if it did not."""
        query = (
            "SELECT client_number FROM bookings WHERE campaign = ? AND agent = ? AND history = ? AND kind = 'train' "
            "LIMIT 1"
        )
        with self._database.read() as connection:
            row = connection.execute(query, (campaign_id, agent_id, history)).fetchone()
        return row[0] if row is not None else None

    def adapters_evaluated(self, campaign_id: str, history: int) -> set[int]:
        """The numbers of the adapters for which an evaluation was booked in a history of a campaign."""
        query = "SELECT round FROM bookings WHERE campaign = ? AND history = ? AND kind = 'evaluate'"
        with self._database.read() as connection:
            return {number for (number,) in connection.execute(query, (campaign_id, history))}

    def histories(self, campaign_id: str) -> set[int]:
        """The histories of a campaign in which work was booked."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT DISTINCT history FROM bookings WHERE campaign = ?", (campaign_id,))
            return {history for (history,) in rows}

    def steps(self, campaign_id: str) -> dict[tuple[int, int], int]:
        """The optimizer steps of each training of a campaign, by round and history."""
        query = "SELECT round, history, steps FROM bookings WHERE campaign = ? AND kind = 'train'"
        with self._database.read() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query, (campaign_id,))}

    def adapters(self, campaign_id: str) -> dict[int, str]:
        """The digests of the adapters that work was booked with in the latest history of a campaign, by number."""
        query = (
            "SELECT round - (kind = 'train'), adapter FROM bookings WHERE campaign = ? AND history = "
            "(SELECT MAX(history) FROM bookings WHERE campaign = ?)"
        )
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query, (campaign_id, campaign_id))}

    def rounds_trained(self, campaign_id: str) -> int:
        """The number of rounds of a campaign for which a training was booked, each counted once."""
        query = "SELECT COUNT(DISTINCT round) FROM bookings WHERE campaign = ? AND kind = 'train'"
        with self._database.read() as connection:
            [number] = connection.execute(query, (campaign_id,)).fetchone()
        return int(number)

    def of_campaign(self, campaign_id: str) -> Totals:
        """The sums of one campaign."""
        with self._database.read() as connection:
            return Totals(*connection.execute(f"{_SUMS} campaign = ?", (campaign_id,)).fetchone())

    def of_pool(self, pool: int) -> Totals:
        """The sums of one body of rows, over all campaigns."""
        with self._database.read() as connection:
            return Totals(*connection.execute(f"{_SUMS} pool = ?", (pool,)).fetchone())

    def campaigns_of(self, pool: int, within: timedelta) -> set[str]:
        """The campaigns for which rows of a pool were used within the latest time."""
        since = (datetime.now(UTC) - within).isoformat()
        query = "SELECT DISTINCT campaign FROM bookings WHERE pool = ? AND at >= ?"
        with self._database.read() as connection:
            return {campaign for (campaign,) in connection.execute(query, (pool, since))}


def _pools_with(connection: Connection, keys: Sequence[str]) -> list[int]:
    """The pools that any of the keys belongs to, in order."""
    found: set[int] = set()
    for first in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[first : first + _KEYS_AT_ONCE]
        marks = ", ".join("?" * len(some))
        rows = connection.execute(f"SELECT DISTINCT pool FROM pools WHERE key IN ({marks})", tuple(some))  # noqa: S608
        found |= {int(pool) for (pool,) in rows}
    return sorted(found)


def _now() -> str:
    return datetime.now(UTC).isoformat()
