"""Public benchmarks: which were offered to campaigns, and which ran on which adapters.

They use no row of the owner, so they belong to no pool and are counted apart from everything that does. A benchmark is
noted before it runs, and gives its numbers once for an adapter of a history: a further request gets the stored ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import TypeAdapter

from agent.record.database import RecordDatabase
from shared.wire.benchmarks import BenchmarkOffer, BenchmarkScore, OfferedBenchmark

_SCORE = TypeAdapter(BenchmarkScore)


@dataclass(frozen=True)
class BenchmarkedAdapter:
    """An adapter of a campaign on which benchmarks run.

    Args:
        campaign_id: the campaign.
        history: number of the campaign's history.
        number: the adapter's.
        sha256: digest of its weights.
    """

    campaign_id: str
    history: int
    number: int
    sha256: str

    @property
    def key(self) -> tuple[str, int, int]:
        """What has one digest: numbers of adapters are given anew in another history."""
        return self.campaign_id, self.history, self.number


class BenchmarkRecord:
    """The tables of offers and runs."""

    def __init__(self, database: RecordDatabase) -> None:
        self._database = database

    def keep_offer(self, campaign_id: str, offer: BenchmarkOffer) -> None:
        """Store an offer that was sent. Benchmarks of the one before stay known, as no longer offered."""
        rows = [(campaign_id, each.name, each.model_dump_json()) for each in offer.benchmarks]
        with self._database.write() as connection:
            connection.execute("UPDATE benchmark_offers SET stands = 0 WHERE campaign = ?", (campaign_id,))
            connection.execute("INSERT OR IGNORE INTO benchmark_offered VALUES (?)", (campaign_id,))
            connection.executemany(
                "INSERT OR REPLACE INTO benchmark_offers (campaign, benchmark, offer, stands) VALUES (?, ?, ?, 1)", rows
            )

    def standing_offer(self, campaign_id: str) -> BenchmarkOffer | None:
        """The last offer that was sent; None if none was."""
        query = "SELECT offer FROM benchmark_offers WHERE campaign = ? AND stands ORDER BY rowid"
        with self._database.read() as connection:
            told = connection.execute("SELECT 1 FROM benchmark_offered WHERE campaign = ?", (campaign_id,)).fetchone()
            offers = [each for (each,) in connection.execute(query, (campaign_id,))]
        benchmarks = [OfferedBenchmark.model_validate_json(each) for each in offers]
        return BenchmarkOffer(benchmarks=benchmarks) if told is not None else None

    def ever_offered(self, campaign_id: str) -> dict[str, OfferedBenchmark]:
        """Each benchmark that was ever offered to a campaign, as it was last."""
        query = "SELECT benchmark, offer FROM benchmark_offers WHERE campaign = ?"
        with self._database.read() as connection:
            rows = connection.execute(query, (campaign_id,)).fetchall()
        return {name: OfferedBenchmark.model_validate_json(offer) for name, offer in rows}

    def begin(self, adapter: BenchmarkedAdapter, names: Iterable[str]) -> None:
        """Note that benchmarks run on an adapter, and how often they were begun."""
        rows = [(_now(), *adapter.key, adapter.sha256, name) for name in names]
        with self._database.write() as connection:
            connection.executemany(
                "INSERT INTO benchmarks (at, campaign, history, number, adapter, benchmark) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (campaign, history, number, benchmark) DO UPDATE SET tries = tries + 1",
                rows,
            )

    def adapter_of(self, adapter: BenchmarkedAdapter) -> str | None:
        """Digest of the adapter of this number on which benchmarks were begun; None if none was."""
        query = "SELECT adapter FROM benchmarks WHERE campaign = ? AND history = ? AND number = ? LIMIT 1"
        with self._database.read() as connection:
            row = connection.execute(query, adapter.key).fetchone()
        return row[0] if row is not None else None

    def keep(self, adapter: BenchmarkedAdapter, scores: Sequence[BenchmarkScore]) -> None:
        """Store what benchmarks gave. A number that is stored stays; what gave none may be run again."""
        rows = [(score.model_dump_json(), bool(score.values), *adapter.key, score.name) for score in scores]
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE benchmarks SET score = ?, has_number = ? WHERE campaign = ? AND history = ? AND number = ? "
                "AND benchmark = ? AND NOT has_number",
                rows,
            )

    def scores(self, adapter: BenchmarkedAdapter) -> dict[str, BenchmarkScore]:
        """What benchmarks gave of an adapter, by name, numbers or none; without those that have not ended."""
        query = "SELECT benchmark, score FROM benchmarks WHERE campaign = ? AND history = ? AND number = ?"
        with self._database.read() as connection:
            rows = connection.execute(f"{query} AND score IS NOT NULL", adapter.key).fetchall()
        return {name: _SCORE.validate_json(score) for name, score in rows}

    def tries(self, adapter: BenchmarkedAdapter) -> dict[str, int]:
        """How often benchmarks were begun on an adapter, by name."""
        query = "SELECT benchmark, tries FROM benchmarks WHERE campaign = ? AND history = ? AND number = ?"
        with self._database.read() as connection:
            return dict(connection.execute(query, adapter.key).fetchall())

    def numbers(self, campaign_id: str, history: int) -> set[int]:
        """The numbers of the adapters on which benchmarks were begun in a history of a campaign."""
        query = "SELECT DISTINCT number FROM benchmarks WHERE campaign = ? AND history = ?"
        with self._database.read() as connection:
            return {number for (number,) in connection.execute(query, (campaign_id, history))}

    def histories(self, campaign_id: str) -> set[int]:
        """The histories of a campaign in which benchmarks were begun."""
        query = "SELECT DISTINCT history FROM benchmarks WHERE campaign = ?"
        with self._database.read() as connection:
            return {history for (history,) in connection.execute(query, (campaign_id,))}

    def count(self, campaign_id: str) -> int:
        """How often a benchmark was begun for a campaign: each counts once for each adapter."""
        with self._database.read() as connection:
            [n] = connection.execute("SELECT COUNT(*) FROM benchmarks WHERE campaign = ?", (campaign_id,)).fetchone()
        return int(n)

    def latest(self, campaign_id: str) -> dict[int, list[BenchmarkScore]]:
        """What benchmarks gave in the latest history of each adapter of a campaign, by the adapter's number."""
        query = (
            "SELECT number, score FROM benchmarks AS b WHERE campaign = ? AND score IS NOT NULL AND history = (SELECT "
            "MAX(history) FROM benchmarks WHERE campaign = b.campaign AND number = b.number) ORDER BY number, id"
        )
        found: dict[int, list[BenchmarkScore]] = {}
        with self._database.read() as connection:
            for number, score in connection.execute(query, (campaign_id,)):
                found.setdefault(number, []).append(_SCORE.validate_json(score))
        return found


def _now() -> str:
    return datetime.now(UTC).isoformat()
