"""The updates that their owner holds, from the end of the training until they are sent or can count nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from sqlite3 import Row
from typing import Self

from agent.orders.jobs import TrainJob
from agent.orders.review import Reviewed
from agent.record.bookings import Work
from agent.record.database import RecordDatabase


@dataclass(frozen=True)
class HeldUpdate:
    """An update that is held, or that was released and is not sent yet.

    Args:
        campaign_id: the campaign.
        round: the round.
        history: number of the campaign's history that the round is of.
        task_id: the task at the coordinator.
        folder: name of the folder with the update's files.
        job: the training.
        held_at: when the training ended.
        release_at: when the update is released automatically; None if only its owner can release it.
        released_at: when the update was released; None while it is held.
        passed_on_at: when the coordinator learned of the release; None before that.
        review: the comparison of before and after; None until it is computed.
        review_tries: how often the review was begun.
    """

    campaign_id: str
    round: int
    history: int
    task_id: str
    folder: str
    job: TrainJob
    held_at: datetime
    release_at: datetime | None
    released_at: datetime | None
    passed_on_at: datetime | None
    review: Reviewed | None
    review_tries: int

    @property
    def is_held(self) -> bool:
        """Whether its owner has not let it go."""
        return self.released_at is None

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells one update from others."""
        return (self.campaign_id, self.round, self.history)

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(
            campaign_id=row["campaign"],
            round=row["round"],
            history=row["history"],
            task_id=row["task"],
            folder=row["folder"],
            job=TrainJob.model_validate_json(row["job"]),
            held_at=datetime.fromisoformat(row["held_at"]),
            release_at=_time(row["release_at"]),
            released_at=_time(row["released_at"]),
            passed_on_at=_time(row["passed_on_at"]),
            review=Reviewed.model_validate_json(row["review"]) if row["review"] is not None else None,
            review_tries=row["review_tries"],
        )


_KEY = "campaign = ? AND round = ? AND history = ?"


class HeldUpdates:
    """The table of held updates. One that ended stays noted, so that what its owner said of it counts if it is asked
    for once more."""

    def __init__(self, database: RecordDatabase) -> None:
        self._database = database

    def hold(self, work: Work, task_id: str, folder: str, job: TrainJob, release_at: datetime | None) -> HeldUpdate:
        """Note an update that is finished, unless it is noted. Returns it, with what its owner said of it before.

        Updates of the same campaign from before a rollback end: they can count nowhere.

        Args:
            work: the training as it is booked.
            task_id: the task at the coordinator.
            folder: name of the folder with the update's files.
            job: the training.
            release_at: when the update goes by itself; None if its owner alone lets it go.
        """
        key = (work.campaign_id, work.round, work.history)
        values = (task_id, folder, job.model_dump_json(), _now(), _text(release_at))
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO held (campaign, round, history, task, folder, job, held_at, release_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (campaign, round, history) DO UPDATE SET "
                "task = excluded.task, folder = excluded.folder, ended_at = NULL",
                (*key, *values),
            )
            connection.execute(
                "UPDATE held SET ended_at = ?, review = NULL WHERE campaign = ? AND history < ? AND ended_at IS NULL",
                (_now(), work.campaign_id, work.history),
            )
            row = connection.execute(f"SELECT * FROM held WHERE {_KEY}", key).fetchone()  # noqa: S608
        return HeldUpdate.of(row)

    def find(self, key: tuple[str, int, int]) -> HeldUpdate | None:
        """An update by its key, also one that ended; None if it was never held."""
        with self._database.read() as connection:
            row = connection.execute(f"SELECT * FROM held WHERE {_KEY}", key).fetchone()  # noqa: S608
        return HeldUpdate.of(row) if row is not None else None

    def kept(self, campaign_id: str | None = None) -> Sequence[HeldUpdate]:
        """The updates that are held, or let go and not sent yet, the oldest first. campaign_id: only of this one."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT * FROM held WHERE ended_at IS NULL AND (? IS NULL OR campaign = ?) ORDER BY held_at, round",
                (campaign_id, campaign_id),
            ).fetchall()
        return [HeldUpdate.of(row) for row in rows]

    def folders(self) -> set[str]:
        """The names of the folders whose files are kept for them."""
        with self._database.read() as connection:
            return {name for (name,) in connection.execute("SELECT folder FROM held WHERE ended_at IS NULL")}

    def release(self, update: HeldUpdate) -> bool:
        """Let an update go. Returns False if it was before, or has ended."""
        with self._database.write() as connection:
            changed = connection.execute(
                f"UPDATE held SET released_at = ? WHERE {_KEY} AND released_at IS NULL AND ended_at IS NULL",  # noqa: S608
                (_now(), *update.key),
            )
            return changed.rowcount == 1

    def passed_on(self, update: HeldUpdate, *, is_told: bool) -> None:
        """Note whether the coordinator knows of the release."""
        self._set(update, "passed_on_at", _now() if is_told else None)

    def begin_review(self, update: HeldUpdate) -> None:
        """Count a review that begins. A review that crashes the agent is retried only a few times."""
        self._set(update, "review_tries", update.review_tries + 1)

    def keep_review(self, update: HeldUpdate, review: Reviewed) -> None:
        """Store what an update changes, unless it has ended meanwhile."""
        with self._database.write() as connection:
            connection.execute(
                f"UPDATE held SET review = ? WHERE {_KEY} AND ended_at IS NULL",  # noqa: S608
                (review.model_dump_json(), *update.key),
            )

    def end(self, update: HeldUpdate) -> None:
        """Note that an update was sent, or can count nowhere. Its prompts and answers are deleted."""
        with self._database.write() as connection:
            connection.execute(
                f"UPDATE held SET ended_at = ?, review = NULL WHERE {_KEY} AND ended_at IS NULL",  # noqa: S608
                (_now(), *update.key),
            )

    def _set(self, update: HeldUpdate, column: str, value: object) -> None:
        with self._database.write() as connection:
            connection.execute(f"UPDATE held SET {column} = ? WHERE {_KEY}", (value, *update.key))  # noqa: S608


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _now() -> str:
    return datetime.now(UTC).isoformat()
