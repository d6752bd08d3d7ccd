"""What an agent is asked to do, and what it answers. One job and one result for each kind of task."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.campaign import BaseSection, DataSection, DpoSection, LoraSection, TrainingKind
from shared.wire.base import BlobRef, Reply, Request, Sha256


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
    plain_client: bool
    """Whether the algorithm's client half is plain local training, which needs no plug-in at the agent."""
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
    campaign that is rolled back asks for an older one. reference: of dpo, the adapter on the base that training is held
    to; None where that is the base alone.
    """

    kind: Literal["train"] = "train"
    fingerprint: Fingerprint
    lora: LoraSection
    data: DataSection
    algorithm: str
    algorithm_params: dict[str, Any]
    plain_client: bool
    """As in ``prepare``. If true, the agent does not validate ``algorithm_params``."""
    round: int
    client_number: int
    seed: int
    steps: int
    batch_size: int
    max_length: int
    learning_rate: float
    optimizer: Literal["adamw", "sgd"]
    max_grad_norm: float | None
    dpo: DpoSection
    adapter: BlobRef
    reference: BlobRef | None = None
    broadcast: BlobRef | None = None
    committed_update: Sha256 | None = None
    state_versions: Annotated[int, Field(ge=2)]


class EvaluateJob(JobBase):
    """Compute the held-out loss of a global adapter. ``round`` is the adapter's number; reference: as in training."""

    kind: Literal["evaluate"] = "evaluate"
    fingerprint: Fingerprint
    lora: LoraSection
    data: DataSection
    round: int
    max_length: int
    dpo: DpoSection
    adapter: BlobRef
    reference: BlobRef | None = None


Job = Annotated[PrepareJob | InitJob | TrainJob | EvaluateJob, Field(discriminator="kind")]

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


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
    tokens are real ones, padding not counted. reward_margin, reward_accuracy: dpo only, means over all pairs of the
    task, each at its own step: r(chosen) − r(rejected), and whether that is above 0."""

    steps: Count
    loss_first: float | None
    loss_last: float | None
    loss_mean: float | None
    tokens: Count
    seconds: Annotated[float, Field(ge=0)]
    tokens_per_s: Annotated[float, Field(ge=0)]
    peak_memory_bytes: Count
    reward_margin: float | None = None
    reward_accuracy: Share | None = None


class TrainResult(Request):
    """delta, extras: digests of the uploaded files; extras only where the algorithm has some. lost_state: the client no
    longer had what it kept with the counted update, and began without."""

    kind: Literal["train"] = "train"
    delta: Sha256
    extras: Sha256 | None = None
    client_state_lost: bool = False
    metrics: TrainMetrics


class EvaluateResult(Request):
    """loss: mean over the held-out rows' supervised tokens, in nats a token; of dpo over the pairs, in nats a pair.
    n_rows: the held-out rows or pairs. Of dpo only, accuracy: the share of pairs whose chosen side has the higher
    reward; margin: the mean of r(chosen) − r(rejected).
    """

    kind: Literal["evaluate"] = "evaluate"
    loss: float
    n_rows: Annotated[int, Field(ge=1)]
    n_tokens: Annotated[int, Field(ge=1)]
    accuracy: Share | None = None
    margin: float | None = None


Result = Annotated[PrepareResult | InitResult | TrainResult | EvaluateResult, Field(discriminator="kind")]
