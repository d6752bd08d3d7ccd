"""The states of campaigns, rounds, tasks, agents and participants."""

from enum import StrEnum


class CampaignState(StrEnum):
    """State of a campaign. ``coordinator.lifecycle`` lists the legal moves."""

    PREPARING = "preparing"
    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHING = "finishing"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (CampaignState.COMPLETED, CampaignState.CANCELLED)

    @property
    def is_at_rest(self) -> bool:
        """Whether the campaign is over, or paused until somebody resumes it."""
        return self.is_final or self is CampaignState.PAUSED


class RoundState(StrEnum):
    """State of a round."""

    OPEN = "open"
    AGGREGATING = "aggregating"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class TaskKind(StrEnum):
    """Kind of work that one agent does."""

    PREPARE = "prepare"
    INIT = "init"
    TRAIN = "train"
    EVALUATE = "evaluate"
    BENCHMARK = "benchmark"


class TaskState(StrEnum):
    """State of a task. A task is superseded, and its result ignored, when its round is rolled back or its late update
    is discarded."""

    PENDING = "pending"
    LEASED = "leased"
    HELD = "held"
    """Done at its agent, whose owner keeps the update back for now."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"

    @property
    def is_final(self) -> bool:
        return self not in (TaskState.PENDING, TaskState.LEASED, TaskState.HELD)


class AgentState(StrEnum):
    """Whether the coordinator still accepts requests of an agent."""

    ACTIVE = "active"
    REVOKED = "revoked"


class TokenState(StrEnum):
    """Whether an enrolment token can be used."""

    OPEN = "open"
    USED = "used"
    EXPIRED = "expired"
    """Its time has passed, and no agent used it."""


class ParticipantState(StrEnum):
    """State of an agent in one campaign."""

    PREPARING = "preparing"
    WAITING = "waiting"
    """For its owner to accept the campaign."""
    PREPARED = "prepared"
    PAUSED = "paused"
    """By its owner."""
    LEFT = "left"
    """Its owner refused the campaign, or left it."""
    MISMATCHED = "mismatched"
    FAILED = "failed"


class EvaluationState(StrEnum):
    """A client's part in the evaluation of the newest evaluated adapter.

    ``withheld``: its owner reports nothing. ``too few rows``: its owner wants more rows behind a number.
    ``none``: it is asked for none, as the campaign evaluates none, or it joined later or was set aside.
    """

    EVALUATED = "evaluated"
    UNDER_WAY = "under way"
    FAILED = "failed"
    WITHHELD = "withheld"
    TOO_FEW_ROWS = "too few rows"
    NO_ROWS = "no rows"
    NONE = "none"


class VerificationState(StrEnum):
    """Where a verification stands. ``pending``: no engine has begun it."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (VerificationState.DONE, VerificationState.CANCELLED)


class BlobKind(StrEnum):
    """Kind of a stored blob."""

    ADAPTER = "adapter"
    BROADCAST = "broadcast"
    SERVER_STATE = "server_state"
    DELTA = "delta"
    EXTRAS = "extras"

    @property
    def is_of_one_client(self) -> bool:
        """Whether it is a part of a single client's update, and no aggregate."""
        return self in (BlobKind.DELTA, BlobKind.EXTRAS)
