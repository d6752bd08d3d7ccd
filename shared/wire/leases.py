"""Leases: messages by which an agent gets, keeps and ends a task."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from shared.metrics import Values
from shared.states import BlobKind
from shared.wire.base import Reply, Request, Sha256
from shared.wire.jobs import Job


class LeaseRequest(Request):
    """Asks for a task."""

    instance_id: Annotated[str, Field(min_length=8, max_length=64)]
    """Identifies the running process: a repeated request after a lost reply differs from one of a second process."""
    version: Annotated[str, Field(max_length=40)]


class TaskLease(Reply):
    """The right to work on a task until ``expires_at``."""

    task_id: str
    attempt: int
    """Number of this grant of the task; it rises with each grant and fences off earlier holders."""
    token: str
    """Secret of the lease, sent with each request about the task."""
    expires_at: datetime
    renew_every_s: float
    """Interval of renewals, in seconds."""
    job: Job


class Phase(StrEnum):
    """What an agent is doing on a task."""

    FETCHING_MODEL = "fetching model"
    TOKENIZING = "tokenizing"
    LOADING_MODEL = "loading model"
    CHECKING_MODEL = "checking model"
    DOWNLOADING = "downloading"
    TRAINING = "training"
    EVALUATING = "evaluating"
    SCORING_REFERENCE = "computing reference log-probabilities"
    UPLOADING = "uploading"


class Progress(Request):
    """Progress of a task."""

    phase: Phase
    done: Annotated[int, Field(ge=0)] = 0
    """Steps, rows or bytes that are done, depending on the phase."""
    total: Annotated[int, Field(ge=0)] = 0
    """Steps, rows or bytes of the whole phase."""
    loss: float | None = None
    """Loss of the latest step; null if there is none, or if the owner does not report it."""
    tokens_per_s: Annotated[float, Field(ge=0)] | None = None
    metrics: Values = {}
    """The kind's own metrics of the latest step, by name."""


class RenewRequest(Request):
    """Renews a lease."""

    progress: Progress | None = None
    """Null if there is no progress to report."""


class Directive(StrEnum):
    """Instruction to the holder of a lease."""

    CONTINUE = "continue"
    CANCEL = "cancel"


class RenewReply(Reply):
    """The new end of the lease, and whether to continue."""

    expires_at: datetime
    directive: Directive


class FailureKind(StrEnum):
    """Why a task failed."""

    REFUSED_BY_POLICY = "refused-by-policy"
    BASE_MODEL = "base-model"
    FINGERPRINT = "fingerprint"
    DATA = "data"
    TRAINING_KIND = "training-kind"
    ALGORITHM = "algorithm"
    OUT_OF_MEMORY = "out-of-memory"
    BAD_UPDATE = "bad-update"
    CRASH = "crash"
    TRANSFER = "transfer"
    LATE = "late"


class Failure(Request):
    """Why an agent cannot do a task."""

    kind: FailureKind
    message: Annotated[str, Field(max_length=4000)]
    """What is wrong and what to do about it."""


class UploadRequest(Request):
    """Starts or resumes the upload of one file of a task."""

    purpose: Literal[BlobKind.ADAPTER, BlobKind.DELTA, BlobKind.EXTRAS]
    sha256: Sha256
    n_bytes: Annotated[int, Field(ge=1)]


class UploadReply(Reply):
    """An upload to send chunks to."""

    id: str
    offset: int
    """Bytes received so far: the position of the next chunk."""
    n_bytes: int
    """Size of the whole file, in bytes."""
