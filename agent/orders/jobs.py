"""Jobs: what the training child does, in full. The agent derives each one from what its owner accepted."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.bounds import Count
from shared.campaign.spec import (
    MAX_RANK,
    BaseSection,
    DataSection,
    LoraSection,
    Name,
    TrainingSection,
    Wire,
    too_many_rows,
)
from shared.wire.base import BlobRef, Id, Sha256
from shared.wire.benchmarks import OfferedBenchmark
from shared.wire.tasks.results import Fingerprint


class JobBase(BaseModel):
    """The fields that every job has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    campaign_id: Id
    campaign_name: Name
    created_on: date
    """The day on which the campaign was created (UTC): the date that templates see at every owner, in every round."""
    training_kind: Name
    """The kind of training by its name, whose agent half trains and evaluates."""
    kind_params: dict[str, Any]
    """The parameters of the kind, which the kind at the agent validates."""
    base: BaseSection
    """The campaign's. Once the agent has prepared, its ``cpu_dtype`` is what was decided then."""
    start_sha256: Sha256 | None = None
    """Digest of adapter 0 if the campaign starts from another campaign's adapter; null if its seed gives adapter 0."""

    @property
    def model_key(self) -> str:
        """What tells the base model, as it is loaded, from others."""
        return self.base.loaded_name


class PrepareJob(JobBase):
    """Fetch and fingerprint the base model, tokenise and count the data."""

    kind: Literal["prepare"] = "prepare"
    lora: LoraSection
    data: DataSection
    algorithm: Name
    plain_client: bool
    """Whether the algorithm's client half is plain local training, which needs no plug-in at the agent."""
    training: TrainingSection


class InitJob(JobBase):
    """Compute adapter 0 from the seed (``shared.adapters.initial``) and upload it."""

    kind: Literal["init"] = "init"
    fingerprint: Fingerprint
    lora: LoraSection
    seed: Count


class TrainJob(JobBase):
    """Fine-tune the global adapter on the agent's own rows and upload the delta."""

    kind: Literal["train"] = "train"
    fingerprint: Fingerprint
    lora: LoraSection
    rank: Annotated[Count, Field(ge=1, le=MAX_RANK)]
    """The client's rank, as it answered in ``prepare``; ``lora`` has the campaign's."""
    data: DataSection
    algorithm: Name
    algorithm_params: dict[str, Any]
    plain_client: bool
    """As in ``prepare``. If true, the agent does not validate ``algorithm_params``."""
    round: Annotated[Count, Field(ge=1)]
    client_number: Count
    training: TrainingSection
    """The campaign's section, whole."""
    steps: Annotated[Count, Field(ge=1)]
    """Optimizer steps of this client, by ``training.steps`` or ``training.epochs``."""
    learning_rate: Annotated[float, Field(gt=0)]
    """The round's learning rate, after the warm-up."""
    adapter: BlobRef
    """The global adapter that the round starts from."""
    reference: BlobRef | None = None
    """The adapter of the reference model, if the kind has one; null means the bare base model."""
    broadcast: BlobRef | None = None
    """The algorithm's broadcast; null if it has none, or while its state is the initial one."""
    wire: Wire = "float32"
    """How the numbers of the update are sent; as they are, if it is not sent."""
    committed_update: Sha256 | None = None
    """Digest of this client's last aggregated delta, which names the client state and the residual to continue from;
    null if no delta was aggregated yet, or the algorithm restarts."""
    state_versions: Annotated[Count, Field(ge=2)]
    """Number of versions of client state and of residuals to keep: a rollback continues from an older one."""

    @model_validator(mode="after")
    def _rows_are_countable(self) -> Self:
        if reason := too_many_rows(self.steps, self.training.batch_size):
            message = f"steps: {reason}"
            raise ValueError(message)
        return self


class EvaluateJob(JobBase):
    """Compute the held-out loss of a global adapter."""

    kind: Literal["evaluate"] = "evaluate"
    fingerprint: Fingerprint
    lora: LoraSection
    data: DataSection
    training: TrainingSection
    """As in training, for the maximum length of a row."""
    round: Count
    """The adapter's number."""
    adapter: BlobRef
    reference: BlobRef | None = None
    """As in training."""


Job = Annotated[PrepareJob | InitJob | TrainJob | EvaluateJob, Field(discriminator="kind")]
"""What the child does in one order."""


class BenchmarkJob(JobBase):
    """Run public benchmarks on a global adapter. The child gets no such job, but the requests of each benchmark."""

    kind: Literal["benchmark"] = "benchmark"
    fingerprint: Fingerprint
    lora: LoraSection
    round: Count
    """The adapter's number."""
    adapter: BlobRef
    benchmarks: Annotated[list[OfferedBenchmark], Field(min_length=1)]
    """What is run, with the items as they were offered."""
    limit: Annotated[Count, Field(ge=1)] | None
    seed: Count


AnyJob = Job | BenchmarkJob
"""What a task is."""
