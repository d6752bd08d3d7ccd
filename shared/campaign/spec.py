"""The campaign file: one model for YAML, JSON, the REST body and the Python client.

``docs/campaign.md`` is generated from the field docstrings. ``shared.campaign.file`` reads the file and names the line
of each error.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from shared import algorithms, kinds
from shared.bounds import Count, Line, Seconds
from shared.campaign.evaluation import EvaluationSection
from shared.campaign.measured import undecidable
from shared.campaign.sections import FROM_COORDINATOR, Section
from shared.kinds import KindSection
from shared.kinds.reading import read_section
from shared.plugins import PluginUnavailable
from shared.text.labels import NAME, NAME_PATTERN
from shared.validation.errors import again
from shared.wire.base import Sha256

MAX_RANK = 1024
"""Largest rank of an adapter."""
MAX_ROUND_ROWS = 10_000_000
"""Most rows that a client trains on in a round, counted as often as they are used: an agent lists them in memory."""

Positive = Annotated[Count, Field(ge=1)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
StartFrom = Annotated[str, Field(pattern=rf"^{NAME}/(final|best|[0-9]{{1,9}})$")]
Labels = Annotated[dict[Name, Annotated[Line, Field(max_length=200)]], Field(max_length=50)]
"""Labels of agents: name and value."""
Rounds = Annotated[Count, Field(ge=1, le=100_000)]
Template = Literal["alpaca", "vicuna", "chat"]
Quantization = Literal["int8", "nf4"]
CpuDtype = Literal["float32", "bfloat16"]
"""Precision of a frozen base model on a CPU."""
AskedCpuDtype = Literal[CpuDtype, "auto"]
"""As a campaign asks for it: ``auto`` lets each agent decide."""
Wire = Literal["float32", "bfloat16", "int8"]
"""How the numbers of an update are written while they travel."""


def too_many_rows(steps: int, batch_size: int) -> str | None:
    """Why a client cannot train for so many steps in a round: their rows are above MAX_ROUND_ROWS. None if it can."""
    if (n_rows := steps * batch_size) <= MAX_ROUND_ROWS:
        return None
    possible = f"at most {MAX_ROUND_ROWS:,} are possible"
    return f"{steps:,} steps with a batch size of {batch_size:,} are {n_rows:,} rows a round; {possible}"


class BaseSection(Section):
    """The base model, which all agents fine-tune. Each agent fetches its weights; the coordinator never does."""

    model: Annotated[Line, Field(min_length=1, max_length=400)]
    """Hub id, or any name that each owner maps to a folder: agents take folders from `[models]` of their `agent.toml`
    alone. `fedloom simulate` takes an absolute path too."""
    revision: Annotated[Line, Field(min_length=1, max_length=200)] | None = None
    """Branch, tag or commit on the hub. Pin a commit, so that all agents get the same weights."""
    quantization: Quantization | None = None
    """Quantisation of the frozen weights in memory, by bitsandbytes: `int8` (Dettmers et al. 2022) or `nf4`, four bits
    (Dettmers et al. 2023). Not quantised if left out. The adapter is float32 in any case."""
    cpu_dtype: AskedCpuDtype = "float32"
    """Precision of the frozen base model, and of the matrix products with it, at agents that compute on a CPU.
    `bfloat16` takes half the memory, and less time on processors that multiply in it; on others it takes longer.
    `auto`: each agent decides once, when it prepares, by the flags of its processor. Equal digests are promised with
    `float32` only. On a GPU the owner's `compute.dtype` decides."""

    @property
    def loaded_name(self) -> str:
        """What tells the base model, as an agent loads it, from others: its name, its quantisation, its precision."""
        rounded = self.cpu_dtype if self.cpu_dtype != "float32" else None
        return " ".join(filter(None, (self.model, self.quantization, rounded)))

    def decided(self, cpu_dtype: CpuDtype | None) -> Self:
        """The section with what ``auto`` was decided to be, in *cpu_dtype*. Where nothing was, it is float32."""
        return self if self.cpu_dtype != "auto" else self.model_copy(update={"cpu_dtype": cpu_dtype or "float32"})


class LoraSection(Section):
    """The LoRA adapter (Hu et al. 2021). Its scale is alpha / rank."""

    rank: Annotated[Count, Field(ge=1, le=MAX_RANK)] = 8
    """Rank r of the factors A and B. With an algorithm that mixes ranks, an agent may train a smaller one
    (`compute.max_lora_rank`)."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 16.0
    """Numerator of the scale alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability of the adapter's inputs in training. Campaigns of kind `dpo` train without dropout."""
    target_modules: Literal["all-linear"] | Annotated[list[Name], Field(min_length=1, max_length=1000)] = "all-linear"
    """Modules with an adapter: `all-linear` (all linear layers but the head), or a list of names without `lm_head`."""
    freeze_a: bool = False
    """Train B only and keep A at its initial values (FFA-LoRA, Sun et al. 2024). The mean of the clients' products BA
    then equals the product of their means exactly, and updates are half as large, but the same rank has less
    capacity."""

    @property
    def scale(self) -> float:
        """α / r, the factor of the product B A."""
        return self.alpha / self.rank

    def at_rank(self, rank: int) -> Self:
        """The section of a client that trains a smaller rank. Its scale is the campaign's, so its α is smaller too."""
        return self if rank == self.rank else self.model_copy(update={"rank": rank, "alpha": self.scale * rank})

    @model_validator(mode="after")
    def _no_head(self) -> Self:
        if any(name.rpartition(".")[2] == "lm_head" for name in self.target_modules):
            message = (
                "target_modules: lm_head cannot be adapted (the trainers compute the loss from its weights directly)"
            )
            raise ValueError(message)
        return self


class TrainingSection(Section):
    """Local training of a client in one round. Give either `steps` or `epochs`."""

    steps: Positive | None = None
    """Optimizer steps per round."""
    epochs: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Passes over the client's own rows per round, instead of `steps`."""
    batch_size: Annotated[Count, Field(ge=1, le=65_536)] = 16
    """Effective batch size: rows per optimizer step. Each agent sets its own micro-batch (`compute.micro_batch`). A
    client trains on at most 10,000,000 rows per round, which are the steps times the batch size."""
    max_length: Annotated[Count, Field(ge=8, le=1_048_576)] = 512
    """Maximum tokens per row, prompt and completion together. Longer rows are cut at the end; rows without any
    completion left are dropped."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Learning rate of the first round. Within a round the rate is constant after the warm-up."""
    min_learning_rate: Annotated[float, Field(ge=0)] | None = None
    """Lower end of the cosine schedule over rounds, at most `learning_rate`. If left out, the rate is constant."""
    warmup_steps: Count = 0
    """Steps at the beginning of each round in which the rate rises linearly: step t of n has the rate t / (n + 1). They
    are fewer than `steps`."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """The client's optimizer, whose state restarts in each round: AdamW, or plain SGD."""
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Weight decay of the factors: decoupled with AdamW (Loshchilov & Hutter 2019), an L2 penalty with SGD."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Maximum norm of the gradient of a step; `null` disables clipping."""
    seed: Count = 0
    """Seed of all randomness in the campaign: adapter 0, the clients of each round, the order of rows, dropout."""

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            message = "give either steps or epochs"
            raise ValueError(message)
        if self.min_learning_rate is not None and self.min_learning_rate > self.learning_rate:
            message = f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}"
            raise ValueError(message)
        if self.steps is not None and self.steps <= self.warmup_steps:
            message = f"warmup_steps: {self.warmup_steps} is not below steps {self.steps}, so the rate is never reached"
            raise ValueError(message)
        if self.steps is not None and (reason := too_many_rows(self.steps, self.batch_size)):
            message = f"steps: {reason}"
            raise ValueError(message)
        return self

    @property
    def amount(self) -> str:
        """What a client does in a round, in words: "10 steps" or "0.5 epochs"."""
        number, unit = (self.steps, "step") if self.steps is not None else (f"{self.epochs:g}", "epoch")
        return f"{number} {unit}{'' if str(number) == '1' else 's'}"

    @property
    def summary(self) -> str:
        """Local training in words: "10 steps a round, batch 16, learning rate 5e-05"."""
        parts = [f"{self.amount} a round", f"batch {self.batch_size}", f"learning rate {self.learning_rate:g}"]
        parts += [f"warm-up {self.warmup_steps} steps"] if self.warmup_steps else []
        parts += [f"weight decay {self.weight_decay:g}"] if self.weight_decay else []
        return ", ".join(parts)

    def steps_for(self, n_rows: int) -> int:
        """Optimizer steps a round for a client with *n_rows* training rows."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        # rounded, since 1.1 * 100 is slightly above 110 and would add a step
        return max(1, math.ceil(round(self.epochs * n_rows / self.batch_size, 9)))

    def learning_rate_in(self, round_number: int, rounds: int) -> float:
        """The rate of a round (from 1): min + ½ (lr − min)(1 + cos(π (r−1) / R)); constant without a minimum."""
        if self.min_learning_rate is None:
            return self.learning_rate
        low, high = self.min_learning_rate, self.learning_rate
        return low + 0.5 * (high - low) * (1 + math.cos(math.pi * (round_number - 1) / rounds))


class DataSection(Section):
    """The data that the agents train on. Each agent's `agent.toml` maps the name to its own files."""

    name: Name
    """Logical name of the data: the table `[data.NAME]` in `agent.toml`."""
    template: Template = "chat"
    """Template that turns a row into text: `alpaca`, `vicuna`, or the tokenizer's own `chat` template."""


class AlgorithmSection(Section):
    """The federated algorithm."""

    name: Name = "fedavg"
    """Name of the algorithm; `fedloom algorithm list` shows all."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the algorithm."""

    @property
    def pull(self) -> float:
        """``AlgorithmParams.pull`` of the parameters. Raises PluginUnavailable and ValidationError."""
        return algorithms.find(self.name).params.model_validate(self.params).pull

    def server_half(self) -> algorithms.ServerHalf[Any]:
        """A new server half with these parameters, for one round. Raises PluginUnavailable."""
        algorithm = algorithms.find(self.name)
        return algorithm.server(algorithm.params.model_validate(self.params))

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> Self:
        if info.context is FROM_COORDINATOR:
            return self  # the coordinator checked it; the reader may lack the algorithm's plug-in
        try:
            algorithm = algorithms.find(self.name)
        except PluginUnavailable as error:
            message = f"name: {error}"
            raise ValueError(message) from error
        try:
            algorithm.params.model_validate(self.params)
        except ValidationError as error:
            known = ", ".join(algorithm.params.model_fields)
            unknown = f"unknown; known are {known}" if known else f"unknown; {self.name} has no parameters"
            wrong = (
                f"params.{'.'.join(map(str, detail['loc']))}: "
                + (unknown if detail["type"] == "extra_forbidden" else detail["msg"])
                for detail in error.errors()
            )
            raise ValueError("\n".join(wrong)) from error
        return self


class WeightingSection(Section):
    """Weights of the updates."""

    by: Literal["examples", "uniform"] = "examples"
    """`examples`: an update's weight is the client's number of training rows. `uniform`: all updates weigh the same."""
    max_examples: Positive | None = None
    """Cap on a client's number of rows for `examples`. Clients declare that number themselves, and it gives them
    weight."""


class SelectionSection(Section):
    """Which agents take part, and how many of them in a round."""

    clients_per_round: Positive | Literal["all"] = "all"
    """Clients drawn for each round; `all` draws every client."""
    minimum: Positive = 3
    """Minimum number of prepared clients to start with, and of updates to close a round; late updates of the round
    before do not count towards it. At most `clients_per_round`, which is the default where it is less than 3. With two
    clients, each can work out the other's update from the new adapter."""
    labels: Labels = Field(default_factory=dict)
    """Only agents whose enrolment token had all of these labels take part."""

    @model_validator(mode="after")
    def _minimum_fits(self) -> Self:
        if self.clients_per_round == "all" or self.minimum <= self.clients_per_round:
            return self
        if "minimum" not in self.model_fields_set:
            object.__setattr__(self, "minimum", self.clients_per_round)  # the section is frozen for others
            return self
        message = f"minimum {self.minimum} is above clients_per_round {self.clients_per_round}"
        raise ValueError(message)


class StragglersSection(Section):
    """Handling of slow and failing clients."""

    over_selection: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Additional clients drawn for a round, as a share of `selection.clients_per_round`. With 10 clients, 0.3 draws 13,
    and the round closes with the first 10 updates (Bonawitz et al. 2019)."""
    late_updates: Literal["drop", "next_round"] = "drop"
    """What happens to a client that is still training when its round closes. `drop`: its work is stopped. `next_round`:
    it continues, is not drawn for the next round, and its update is aggregated in that round."""
    staleness_exponent: Annotated[float, Field(ge=0, le=100)] = 0.5
    """Exponent a of the factor (1 + s)^-a on a late update's weight, where s = 1 is the number of rounds by which it is
    late (Xie et al. 2019, who use 0.5 too). 0 keeps the full weight."""
    under_minimum: Literal["extend", "replace", "fail"] = "extend"
    """What happens to a round with fewer than `selection.minimum` updates at its deadline. `extend`: the deadline is
    extended, and tasks that were not started go to clients that were not drawn. `replace`: the deadline is extended,
    and all unfinished tasks go to clients that were not drawn, while there are any. `fail`: the campaign is paused."""
    set_aside_after: Positive = 3
    """Number of consecutive rounds that a client fails, or whose deadline it misses, before it is set aside."""
    set_aside_rounds: Count = 5
    """Number of rounds for which a client that is set aside is not drawn. One more failure after that sets it aside
    again. 0 never sets a client aside."""


class DeadlineSection(Section):
    """Time limits for slow agents."""

    prepare_s: Seconds = 3600.0
    """Seconds for agents to prepare. At the deadline the campaign starts if at least `selection.minimum` agents are
    prepared; the others join in a later round."""
    round_s: Seconds = 3600.0
    """Seconds for a round. At the deadline the round closes if it has at least `selection.minimum` updates.
    `stragglers` says what happens to the other clients, and to a round with fewer updates."""


class RetentionSection(Section):
    """How many rounds of files the coordinator keeps. Deleted files keep their digests in the lineage."""

    adapters: Positive | Literal["all"] = "all"
    """Number of newest global adapters to keep, by default all, since they are small and a rollback needs them. Adapter
    0, the best and the last one are always kept."""
    server_state: Positive = 5
    """Number of newest rounds whose algorithm state is kept, at the coordinator and at the clients. A rollback needs
    the state of its round; a state can be several times as large as an adapter."""
    updates: Count = 0
    """Number of newest closed rounds whose updates are kept; `fedloom campaign verify` needs them. 0 deletes updates
    when their round closes. Owners must allow more than 0, since single updates tell more about rows than their sum."""

    @property
    def kept_updates(self) -> str | None:
        """For how long updates are kept, in words; None if they go with their round."""
        if self.updates == 0:
            return None
        return f"keeps each agent's update for {self.updates} round{'' if self.updates == 1 else 's'}"


class CampaignSpec(Section):
    """A federated fine-tuning job."""

    model_config = ConfigDict(extra="allow")  # the section of the kind, which has the kind's name

    name: Name
    """Name of the campaign."""
    kind: Name = "sft"
    """Kind of training: `sft`, supervised fine-tuning on prompts and completions, `dpo`, preference optimisation on
    prompts with a chosen and a rejected completion, or an installed one. A kind with parameters has a section of its
    own, such as `dpo`."""
    base: BaseSection
    lora: LoraSection = LoraSection()
    training: TrainingSection
    data: DataSection
    algorithm: AlgorithmSection = AlgorithmSection()
    weighting: WeightingSection = WeightingSection()
    wire: Wire = "float32"
    """How the numbers of updates are sent: `float32`, exactly; `bfloat16`, in half as many bytes; `int8`, in about a
    quarter, as whole numbers with a scale for each 256 of them. What rounding changes, the client adds to its next
    update. Adapters are sent exactly in any case. An algorithm that clips or masks whole updates needs `float32`."""
    rounds: Rounds
    """Number of rounds."""
    start_from: StartFrom | None = None
    """Another campaign's adapter to start from, as `CAMPAIGN/final`, `CAMPAIGN/best` or `CAMPAIGN/NUMBER`; CAMPAIGN is
    an id or a name (the newest campaign of that name). Both campaigns need the same `base` and the same `lora`, except
    `lora.dropout`. If left out, adapter 0 is drawn from `training.seed`."""
    start_sha256: Sha256 | None = None
    """SHA-256 of that adapter, which agents compare with what they get. Set by the coordinator when the campaign is
    created; one that is given must be right."""
    selection: SelectionSection = SelectionSection()
    deadline: DeadlineSection = DeadlineSection()
    stragglers: StragglersSection = StragglersSection()
    evaluation: EvaluationSection = EvaluationSection()
    retention: RetentionSection = RetentionSection()

    @model_validator(mode="wrap")
    @classmethod
    def _read_kind(cls, raw: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Validate the section of the kind with the kind's model, and refuse all other unknown fields."""
        if not isinstance(raw, dict):
            return handler(raw)
        if info.context is FROM_COORDINATOR:  # which checked it; the reader may lack the kind's plug-in
            spec = handler(raw)
            # set here: a reader that ignores what a newer coordinator adds would lose the section
            own = {spec.kind: raw[spec.kind]} if spec.kind in raw and spec.kind not in cls.model_fields else {}
            object.__setattr__(spec, "__pydantic_extra__", own)
            return spec
        section, errors = read_section(raw.get("kind", cls.model_fields["kind"].default), raw, cls.model_fields)
        try:
            spec = handler(raw | section)
        except ValidationError as error:
            known = {each["loc"] for each in errors}
            errors = [again(each) for each in error.errors(include_url=False) if each["loc"] not in known] + errors
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return spec

    @model_validator(mode="after")
    def _digest_is_of_a_start(self) -> Self:
        if self.start_sha256 is not None and self.start_from is None:
            message = "start_sha256: it is the digest of the adapter that start_from names; give start_from, or neither"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _decides_by_what_is_measured(self, info: ValidationInfo) -> Self:
        if info.context is not FROM_COORDINATOR and (problem := undecidable(self.evaluation, self.kind)):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _sends_what_the_algorithm_needs(self, info: ValidationInfo) -> Self:
        if self.wire == "float32" or info.context is FROM_COORDINATOR:
            return self
        if algorithms.find(self.algorithm.name).needs_exact_updates:
            message = (
                f"wire: {self.algorithm.name} needs updates exactly as its clients computed them, and {self.wire} "
                "rounds them; set wire to float32"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _over_selects_from_a_number(self) -> Self:
        if self.stragglers.over_selection and self.selection.clients_per_round == "all":
            message = (
                "stragglers.over_selection: set selection.clients_per_round to a number; all leaves no client to draw"
            )
            raise ValueError(message)
        return self

    def evaluates(self, adapter_number: int) -> bool:
        """Whether the global adapter with this number is evaluated on held-out rows."""
        return self.evaluation.on_held_out_rows(adapter_number, self.rounds)

    def benchmarks(self, adapter_number: int) -> bool:
        """Whether benchmarks run on the global adapter with this number."""
        return self.evaluation.by_benchmarks(adapter_number, self.rounds)

    @property
    def kind_params(self) -> dict[str, Any]:
        """The parameters of the kind, as they are in its section."""
        params: dict[str, Any] = (self.__pydantic_extra__ or {}).get(self.kind, {})
        return params

    def kind_section(self) -> KindSection:
        """The section of the kind. Raises PluginUnavailable, also if the kind no longer accepts the section."""
        try:
            return kinds.find(self.kind).read_section(self.kind_params)
        except PluginUnavailable:
            raise
        except Exception as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else type(error).__name__
            raise kinds.PLUGINS.broken(self.kind, f"it does not accept the campaign's section ({said})") from error

    def missing_plugin(self) -> str | None:
        """Why a plug-in of the campaign cannot be used here; None if all can."""
        try:
            self.kind_section()
            algorithm = algorithms.find(self.algorithm.name)
            algorithm.params.model_validate(self.algorithm.params)
        except PluginUnavailable as error:
            return str(error)
        except ValidationError as error:
            return f"the algorithm {self.algorithm.name!r} does not accept its parameters ({error.errors()[0]['msg']})"
        return None
