"""Jobs for agents and their results, one of each per kind of task."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.campaign.spec import BaseSection, DataSection, LoraSection, TrainingSection
from shared.metrics import Values
from shared.wire.base import BlobRef, Reply, Request, Sha256


class Fingerprint(BaseModel):
    """Digests of the parts of a base model. Agents train together only if all four are equal."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    weights: Sha256
    config: Sha256
    tokenizer: Sha256
    template: Sha256

    def differences(self, other: "Fingerprint") -> list[str]:
        """The names of the parts that differ between two fingerprints."""
        return [part for part in type(self).model_fields if getattr(self, part) != getattr(other, part)]


class JobBase(Reply):
    """The fields that every job has."""

    campaign_id: str
    campaign_name: str
    created_on: date
    """The day on which the campaign was created (UTC): the date that templates see at every owner, in every round."""
    training_kind: str
    """The kind of training by its name, whose agent half trains and evaluates."""
    kind_params: dict[str, Any]
    """The parameters of the kind, which the kind at the agent validates."""
    base: BaseSection


class PrepareJob(JobBase):
    """Fetch and fingerprint the base model, tokenise and count the data. Carries all that an agent's policy checks."""

    kind: Literal["prepare"] = "prepare"
    lora: LoraSection
    data: DataSection
    algorithm: str
    plain_client: bool
    """Whether the algorithm's client half is plain local training, which needs no plug-in at the agent."""
    mixes_ranks: bool
    """Whether the agent may train a smaller rank than ``lora`` has."""
    training: TrainingSection
    rounds: int


class InitJob(JobBase):
    """Build the LoRA adapter from the seed and upload it as adapter 0."""

    kind: Literal["init"] = "init"
    fingerprint: Fingerprint
    lora: LoraSection
    seed: int


class TrainJob(JobBase):
    """Fine-tune the global adapter on the agent's own rows and upload the delta."""

    kind: Literal["train"] = "train"
    fingerprint: Fingerprint
    lora: LoraSection
    rank: int
    """The client's rank, as it answered in ``prepare``; ``lora`` has the campaign's."""
    data: DataSection
    algorithm: str
    algorithm_params: dict[str, Any]
    plain_client: bool
    """As in ``prepare``. If true, the agent does not validate ``algorithm_params``."""
    round: int
    client_number: int
    training: TrainingSection
    """The campaign's section, whole: a further field needs no other message."""
    steps: int
    """Optimizer steps of this client, by ``training.steps`` or ``training.epochs``."""
    learning_rate: float
    """The round's learning rate, after the warm-up."""
    adapter: BlobRef
    """The global adapter that the round starts from."""
    reference: BlobRef | None = None
    """The adapter of the reference model, if the kind has one; null means the bare base model."""
    broadcast: BlobRef | None = None
    """The algorithm's broadcast; null if it has none, or while its state is the initial one."""
    committed_update: Sha256 | None = None
    """Digest of this client's last aggregated delta, which names the client state to continue from; null if the
    algorithm has no client state, no delta was aggregated yet, or the algorithm restarts."""
    state_versions: Annotated[int, Field(ge=2)]
    """Number of client state versions to keep: a rollback continues from an older one."""


class EvaluateJob(JobBase):
    """Compute the held-out loss of a global adapter."""

    kind: Literal["evaluate"] = "evaluate"
    fingerprint: Fingerprint
    lora: LoraSection
    data: DataSection
    training: TrainingSection
    """As in training, for the maximum length of a row."""
    round: int
    """The adapter's number."""
    adapter: BlobRef
    reference: BlobRef | None = None
    """As in training."""


Job = Annotated[PrepareJob | InitJob | TrainJob | EvaluateJob, Field(discriminator="kind")]

Count = Annotated[int, Field(ge=0)]
MAX_NOTICES, MAX_NOTICE = 20, 400
"""The most notices of a result, and the most characters of one."""
NoticeText = Annotated[str, Field(max_length=MAX_NOTICE)]


class PrepareResult(Request):
    """Fingerprint of the base model, and counts of the rows. A row with two completions is a pair."""

    kind: Literal["prepare"] = "prepare"
    fingerprint: Fingerprint
    rank: Annotated[int, Field(ge=1)]
    """Rank that the agent will train: the campaign's, or a smaller one if the algorithm mixes ranks."""
    n_train: Count
    """Usable rows for training."""
    n_held_out: Count
    """Usable rows for evaluation."""
    dropped: Count = 0
    """Unusable rows: no part of the completion fits, or the two completions of a pair are equal."""
    notices: Annotated[list[NoticeText], Field(max_length=MAX_NOTICES)] = []
    """What of the usable rows is not read or not learnt, and what of the base model is not adapted, each in a sentence
    that quotes no row."""


class InitResult(Request):
    """The initial adapter."""

    kind: Literal["init"] = "init"
    adapter: Sha256
    """Digest of the uploaded adapter 0."""


class TrainResult(Request):
    """The update of one client."""

    kind: Literal["train"] = "train"
    delta: Sha256
    """Digest of the uploaded delta."""
    extras: Sha256 | None = None
    """Digest of the uploaded extras; null if the algorithm has none."""
    client_state_lost: bool = False
    """The client state of the committed update was missing, so training began from the initial client state."""
    metrics: Values
    """Metrics of origin ``training`` by name. Those that the owner does not report are missing."""


class EvaluateResult(Request):
    """Held-out metrics of one adapter at one client."""

    kind: Literal["evaluate"] = "evaluate"
    metrics: Values
    """All metrics of origin ``evaluation`` by name."""


Result = Annotated[PrepareResult | InitResult | TrainResult | EvaluateResult, Field(discriminator="kind")]
