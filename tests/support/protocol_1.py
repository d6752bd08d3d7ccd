"""What an agent of protocol version 1 sends and reads: the messages as they were, and strict where they were.

A copy, which stays as it is for as long as version 1 is served: whatever it refuses, such an agent refuses. The names
are those of the code that it was copied from.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PROTOCOL_VERSION = 1
PROTOCOL_HEADER = "Fedloom-Protocol"
LEASE_HEADER = "Fedloom-Lease"
"""``<attempt>.<token>``: the right to speak for a task."""

CHUNK_BYTES = 8 << 20
"""Bytes of one upload chunk, at most."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Request(BaseModel):
    """Sent to the coordinator."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Reply(BaseModel):
    """Sent by the coordinator."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class BlobRef(BaseModel):
    """A blob by its digest, and how many bytes it has."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sha256: Sha256
    n_bytes: Annotated[int, Field(ge=0)]


Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Template = Literal["alpaca", "vicuna", "chat"]
TrainingKind = Literal["sft", "dpo"]


class Section(BaseModel):
    """A part of a campaign file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class BaseSection(Section):
    """The language model that everyone fine-tunes. Its weights are fetched by each agent, never by the coordinator."""

    model: Annotated[str, Field(min_length=1, max_length=400)]
    """Hub id or folder. An agent's settings may say where that model lies on its machine."""
    revision: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Branch, tag or commit at the hub. Pin a commit, so that all agents get the same weights."""


class LoraSection(Section):
    """The LoRA adapter (Hu et al. 2021). Its scale is alpha / rank."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rank of the two factors."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """Numerator of the scale alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which an input of the adapter is dropped in training; in campaigns of kind `dpo` nothing is."""
    target_modules: Literal["all-linear"] | Annotated[list[Name], Field(min_length=1)] = "all-linear"
    """Modules that get an adapter: `all-linear` (every linear layer but the head), or their names. Never `lm_head`."""
    freeze_a: bool = False
    """Train B alone, and leave A as it was drawn (FFA-LoRA, Sun et al. 2024). The mean of the clients' products BA is
    then the product of their means exactly, updates are half as large, and less can be learnt at the same rank."""

    @model_validator(mode="after")
    def _no_head(self) -> Self:
        if any(name.rpartition(".")[2] == "lm_head" for name in self.target_modules):
            message = (
                "target_modules: lm_head cannot be adapted (the trainers compute the loss from its weights directly)"
            )
            raise ValueError(message)
        return self


class DpoSection(Section):
    """Direct preference optimisation (Rafailov et al. 2023), where `kind` is `dpo`. The reference is the base model."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly the model is held to the reference: β of the loss −log σ(β (chosen's log ratio − rejected's))."""


class DataSection(Section):
    """Which data the agents train on. What the name stands for is said in each agent's own settings."""

    name: Name
    """Logical name of the data."""
    template: Template = "chat"
    """How a row becomes text: `alpaca`, `vicuna`, or the tokenizer's own `chat` template."""


class BlobKind(StrEnum):
    """What a stored blob of a campaign is."""

    ADAPTER = "adapter"
    BROADCAST = "broadcast"
    SERVER_STATE = "server_state"
    DELTA = "delta"
    EXTRAS = "extras"


class Fingerprint(BaseModel):
    """Digests of a base model's parts. Agents train together only where all of them agree."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    weights: Sha256
    config: Sha256
    tokenizer: Sha256
    template: Sha256

    def differences(self, other: "Fingerprint") -> list[str]:
        """The parts in which two fingerprints differ."""
        return [part for part in type(self).model_fields if getattr(self, part) != getattr(other, part)]


class JobBase(Reply):
    """What every job says: whose it is, and of which model."""

    campaign_id: str
    campaign_name: str
    training_kind: TrainingKind
    base: BaseSection


class PrepareJob(JobBase):
    """Get the base model, fingerprint it, tokenise the data, count it. Says all that an agent's policy asks about."""

    kind: Literal["prepare"] = "prepare"
    lora: LoraSection
    data: DataSection
    algorithm: str
    max_length: int
    steps: int | None
    epochs: float | None
    rounds: int


class InitJob(JobBase):
    """Build the LoRA adapter from the seed and upload it as adapter 0."""

    kind: Literal["init"] = "init"
    fingerprint: Fingerprint
    lora: LoraSection
    seed: int


class TrainJob(JobBase):
    """Fine-tune the global adapter on the agent's own rows and upload the delta.

    counted: digest of the delta of this client that counted last, where its algorithm has clients keep something; None
    where none has, or all start again. keep_versions: how many of what belongs to this client's deltas to hold on to: a
    campaign that is rolled back asks for an older one.
    """

    kind: Literal["train"] = "train"
    fingerprint: Fingerprint
    lora: LoraSection
    data: DataSection
    algorithm: str
    algorithm_params: dict[str, Any]
    round: int
    client_number: int
    seed: int
    steps: int
    batch_size: int
    max_length: int
    learning_rate: float
    optimizer: Literal["adamw", "sgd"] = "adamw"
    max_grad_norm: float | None = 1.0
    dpo: DpoSection = DpoSection()
    adapter: BlobRef
    broadcast: BlobRef | None = None
    counted: Sha256 | None = None
    keep_versions: Annotated[int, Field(ge=2)] = 2


class EvaluateJob(JobBase):
    """Compute the held-out loss of a global adapter. ``round`` is the adapter's number."""

    kind: Literal["evaluate"] = "evaluate"
    fingerprint: Fingerprint
    lora: LoraSection
    data: DataSection
    round: int
    max_length: int
    dpo: DpoSection = DpoSection()
    adapter: BlobRef


Job = Annotated[PrepareJob | InitJob | TrainJob | EvaluateJob, Field(discriminator="kind")]

Count = Annotated[int, Field(ge=0)]


class PrepareResult(Request):
    """n_train, n_held_out: rows that can be used; a pair of dpo is a row. dropped: rows that cannot, because nothing of
    a completion fits, or because a pair's two are equal."""

    kind: Literal["prepare"] = "prepare"
    fingerprint: Fingerprint
    n_train: Count
    n_held_out: Count
    dropped: Count = 0


class InitResult(Request):
    """adapter: digest of the uploaded adapter 0."""

    kind: Literal["init"] = "init"
    adapter: Sha256


class TrainMetrics(Request):
    """Of one task. Losses are nats a supervised token, of dpo nats a pair, None where the owner does not report them;
    tokens are real ones, padding not counted."""

    steps: Count
    loss_first: float | None
    loss_last: float | None
    loss_mean: float | None
    tokens: Count
    seconds: Annotated[float, Field(ge=0)]
    tokens_per_s: Annotated[float, Field(ge=0)]
    peak_memory_bytes: Count


class TrainResult(Request):
    """delta, extras: digests of the uploaded files; extras only where the algorithm has some. lost_state: the client no
    longer had what it kept with the counted update, and began without."""

    kind: Literal["train"] = "train"
    delta: Sha256
    extras: Sha256 | None = None
    lost_state: bool = False
    metrics: TrainMetrics


class EvaluateResult(Request):
    """loss: mean over the held-out rows' supervised tokens, in nats a token; of dpo over the pairs, in nats a pair.
    n_rows: the held-out rows or pairs. accuracy: dpo only, the share of pairs whose chosen side has the higher reward.
    """

    kind: Literal["evaluate"] = "evaluate"
    loss: float
    n_rows: Annotated[int, Field(ge=1)]
    n_tokens: Annotated[int, Field(ge=1)]
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None


Result = Annotated[PrepareResult | InitResult | TrainResult | EvaluateResult, Field(discriminator="kind")]


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
    UPLOADING = "uploading"
    # of what a person asks for on one machine: no lease carries them
    ANSWERING = "answering"
    MERGING = "merging"
    WRITING = "writing"
    CHECKING = "checking"


class Progress(Request):
    """How far a task is. ``done`` of ``total`` counts steps, rows or bytes, by phase."""

    phase: Phase
    done: Annotated[int, Field(ge=0)] = 0
    total: Annotated[int, Field(ge=0)] = 0
    loss: float | None = None
    tokens_per_s: Annotated[float, Field(ge=0)] | None = None


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
    OUT_OF_MEMORY = "out-of-memory"
    BAD_UPDATE = "bad-update"
    CRASH = "crash"


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


class EnrollmentRequest(Request):
    """An agent's first call."""

    token: Annotated[str, Field(min_length=8, max_length=200)]
    name: Name
    version: Annotated[str, Field(max_length=40)]


class EnrollmentReply(Reply):
    """The agent's identity. The secret is shown once, and kept as a hash."""

    agent_id: str
    name: str
    labels: dict[str, str]
    secret: str


class FieldProblem(Reply):
    """One wrong field of a request."""

    field: str
    message: str


class Problem(Reply):
    """An error reply. ``retryable`` says whether the same request may succeed later."""

    type: str
    title: str
    status: int
    detail: str = ""
    retryable: bool = False
    request_id: str | None = None
    errors: list[FieldProblem] = []
