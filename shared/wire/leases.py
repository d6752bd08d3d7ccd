"""Leases: how an agent gets a task, keeps it, and ends it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from shared.states import BlobKind
from shared.wire.base import Reply, Request, Sha256
from shared.wire.jobs import Job


class LeaseRequest(Request):
    """Asks for work. ``instance_id`` names the running process, so that a lost reply is told from a second process."""

    instance_id: Annotated[str, Field(min_length=8, max_length=64)]
    version: Annotated[str, Field(max_length=40)]


class TaskLease(Reply):
    """The right to work on a task until a time. Renew it every ``renew_every_s`` seconds."""

    task_id: str
    attempt: int
    token: str
    expires_at: datetime
    renew_every_s: float
    job: Job


class Phase(StrEnum):
    """What an agent is doing on a task."""

    FETCHING_MODEL = "fetching model"
    TOKENIZING = "tokenizing"
    LOADING_MODEL = "loading model"
    DOWNLOADING = "downloading"
    TRAINING = "training"
    EVALUATING = "evaluating"
    SCORING_REFERENCE = "scoring the reference"
    UPLOADING = "uploading"


class Progress(Request):
    """How far a task is. ``done`` of ``total`` counts steps, rows or bytes, by phase. reward_margin, reward_accuracy:
    of the latest step's pairs, in training of kind dpo."""

    phase: Phase
    done: Annotated[int, Field(ge=0)] = 0
    total: Annotated[int, Field(ge=0)] = 0
    loss: float | None = None
    tokens_per_s: Annotated[float, Field(ge=0)] | None = None
    reward_margin: float | None = None
    reward_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None


class RenewRequest(Request):
    """Renews a lease, with the progress where there is some to report."""

    progress: Progress | None = None


class Directive(StrEnum):
    """What the holder of a lease should do."""

    CONTINUE = "continue"
    CANCEL = "cancel"


class RenewReply(Reply):
    """The lease's new end, and whether to go on."""

    expires_at: datetime
    directive: Directive


class FailureKind(StrEnum):
    """Why a task failed."""

    REFUSED_BY_POLICY = "refused-by-policy"
    BASE_MODEL = "base-model"
    FINGERPRINT = "fingerprint"
    DATA = "data"
    ALGORITHM = "algorithm"
    OUT_OF_MEMORY = "out-of-memory"
    BAD_UPDATE = "bad-update"
    CRASH = "crash"
    TRANSFER = "transfer"
    LATE = "late"


class Failure(Request):
    """A task that this agent cannot do, and what to do about it."""

    kind: FailureKind
    message: Annotated[str, Field(max_length=4000)]


class UploadRequest(Request):
    """Starts, or finds again, the upload of one file of a task."""

    purpose: Literal[BlobKind.ADAPTER, BlobKind.DELTA, BlobKind.EXTRAS]
    sha256: Sha256
    n_bytes: Annotated[int, Field(ge=1)]


class UploadReply(Reply):
    """Where to send chunks, and how many bytes are there already."""

    id: str
    offset: int
    n_bytes: int
