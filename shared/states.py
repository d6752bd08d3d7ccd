"""The states that a campaign, a round, a task, an agent and a participant can be in."""

from enum import StrEnum


class CampaignState(StrEnum):
    """Where a campaign stands. The legal moves are in ``coordinator.lifecycle``."""

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
        """Whether nothing happens any more, or not before somebody resumes it."""
        return self.is_final or self is CampaignState.PAUSED


class RoundState(StrEnum):
    """Where a round stands."""

    OPEN = "open"
    AGGREGATING = "aggregating"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class TaskKind(StrEnum):
    """What one agent is asked to do."""

    PREPARE = "prepare"
    INIT = "init"
    TRAIN = "train"
    EVALUATE = "evaluate"


class TaskState(StrEnum):
    """Where a task stands. What it did counts for nothing once its round was rolled back, or its late work was
    given up: it is superseded."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"

    @property
    def is_final(self) -> bool:
        return self not in (TaskState.PENDING, TaskState.LEASED)


class AgentState(StrEnum):
    """Whether an agent may still speak to the coordinator."""

    ACTIVE = "active"
    REVOKED = "revoked"


class ParticipantState(StrEnum):
    """How far an agent is with one campaign."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    MISMATCHED = "mismatched"
    FAILED = "failed"


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
    """What a stored blob of a campaign is."""

    ADAPTER = "adapter"
    BROADCAST = "broadcast"
    SERVER_STATE = "server_state"
    DELTA = "delta"
    EXTRAS = "extras"
