"""Leases: messages by which an agent gets, keeps and ends a task."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field

from shared.bounds import MAX_INT, TEN_YEARS_S, Bytes, Count, Line, Whole
from shared.metrics import Values
from shared.states import BlobKind
from shared.text.unsafe import one_line
from shared.wire.base import Id, Reply, Request, Sha256
from shared.wire.statements import SignedStatements
from shared.wire.tasks.assignments import Assignment

_MAX_MESSAGE = 4000
MAX_FOLLOWED = 20
"""The most campaigns of which a request for work names statements."""
_MAX_SPEED = 2**53
MAX_RENEWAL_S = 3600.0
"""The longest interval of renewals, in seconds."""


class LeaseRequest(Request):
    """Asks for a task."""

    instance_id: Annotated[Line, Field(min_length=8, max_length=64)]
    """Identifies the running process: a repeated request after a lost reply differs from one of a second process."""
    version: Annotated[Line, Field(max_length=40)]
    statements: Annotated[dict[Id, Count], Field(max_length=MAX_FOLLOWED)] = {}
    """Number of the newest statement that the agent has, by campaign: the lease brings what follows."""


class LeaseGrant(Reply):
    """What ends a task: an agent that cannot read the rest can still say so."""

    task_id: Id
    attempt: Annotated[Whole, Field(ge=1, le=MAX_INT)]
    """Number of this grant of the task; it rises with each grant and fences off earlier holders."""
    token: Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]
    """Secret of the lease, sent with each request about the task."""


class TaskLease(LeaseGrant):
    """The right to work on a task until ``expires_at``."""

    expires_at: datetime
    renew_every_s: Annotated[float, Field(gt=0, le=MAX_RENEWAL_S, allow_inf_nan=False)]
    """Interval of renewals, in seconds. An agent takes a shorter one than a second for a second."""
    assignment: Assignment
    statements: SignedStatements | None = None
    """The campaign's statements from the one that the request named; null if it named none, or if they are too long."""


class Phase(StrEnum):
    """What an agent is doing on a task."""

    IMPORTING = "importing libraries"
    FETCHING_MODEL = "fetching model"
    READING_MODEL = "reading model files"
    TOKENIZING = "tokenizing"
    LOADING_MODEL = "loading model"
    CHECKING_MODEL = "checking model"
    DOWNLOADING = "downloading"
    TRAINING = "training"
    EVALUATING = "evaluating"
    BENCHMARKING = "running benchmarks"
    SCORING_REFERENCE = "computing reference log-probabilities"
    UPLOADING = "uploading"


BYTE_PHASES = frozenset({Phase.FETCHING_MODEL, Phase.DOWNLOADING, Phase.UPLOADING})
"""Phases whose progress is in bytes."""


class Progress(Request):
    """Progress of a task."""

    phase: Phase
    done: Bytes = 0
    """Steps, rows or bytes that are done, depending on the phase."""
    total: Bytes = 0
    """Steps, rows or bytes of the whole phase."""
    loss: float | None = None
    """Loss of the latest step; null if there is none, or if the owner does not report it live."""
    tokens_per_s: Annotated[float, Field(ge=0, le=_MAX_SPEED)] | None = None
    """Speed; null if it is unknown, or if the owner does not report it live."""
    seconds_left: Annotated[float, Field(ge=0, le=TEN_YEARS_S)] | None = None
    """Time that the rest of the phase takes, in seconds, by its recent pace; null as the speed is."""
    peak_memory_bytes: Bytes | None = None
    """Most memory that the training process has held in this task: of the GPU if it uses one, otherwise its resident
    set. Null as the speed is."""
    gpu_memory_bytes: Bytes | None = None
    """All memory of the GPU. Null if none is used, and as the speed is."""
    gpu_utilization: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the last moment in which the GPU computed. Null if its driver does not say, and as the speed is."""
    metrics: Values = {}
    """The kind's own metrics of the latest step, by name; empty unless the owner reports them live."""


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

    WAITING_FOR_OWNER = "waiting-for-owner"
    PAUSED_BY_OWNER = "paused-by-owner"
    REFUSED_BY_OWNER = "refused-by-owner"
    REFUSED_BY_POLICY = "refused-by-policy"
    CONTRACT_MISMATCH = "contract-mismatch"
    NOT_SIGNED = "not-signed"
    BASE_MODEL = "base-model"
    FINGERPRINT = "fingerprint"
    DATA = "data"
    TRAINING_KIND = "training-kind"
    ALGORITHM = "algorithm"
    TRAINER = "trainer"
    OUT_OF_MEMORY = "out-of-memory"
    BAD_UPDATE = "bad-update"
    BENCHMARK = "benchmark"
    CRASH = "crash"
    TRANSFER = "transfer"
    LATE = "late"
    UNREADABLE_ASSIGNMENT = "unreadable-assignment"


class Failure(Request):
    """Why an agent cannot do a task."""

    kind: FailureKind
    message: Annotated[Line, Field(max_length=_MAX_MESSAGE)]
    """What is wrong and what to do about it."""

    @classmethod
    def of(cls, kind: FailureKind, message: str) -> Self:
        """Make a failure from a text of any form and length."""
        return cls(kind=kind, message=one_line(message, _MAX_MESSAGE))


UploadPurpose = Literal[BlobKind.ADAPTER, BlobKind.DELTA, BlobKind.EXTRAS]
"""The kinds of files that a task may have."""


class UploadRequest(Request):
    """Starts or resumes the upload of one file of a task: the query of a request whose body is the first chunk."""

    purpose: UploadPurpose
    sha256: Sha256
    n_bytes: Annotated[Bytes, Field(ge=1)]


class UploadReply(Reply):
    """An upload to send chunks to."""

    id: Id
    offset: Bytes
    """Bytes received so far: the position of the next chunk."""
    n_bytes: Bytes
    """Size of the whole file, in bytes."""
