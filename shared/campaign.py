"""The campaign file: one model for YAML, JSON, the REST body and the Python client.

Every field's description is its documentation. ``shared.campaign_file`` reads it from text and names the line of what
is wrong.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from shared import algorithms

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
StartFrom = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}/(final|best|\d{1,9})$")]
Template = Literal["alpaca", "vicuna", "chat"]
TrainingKind = Literal["sft", "dpo"]
Quantization = Literal["int8", "nf4"]
DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
]
"""The losses of TRL's DPO trainer that compare two completions."""
_SMOOTHED = ("exo_pair", "robust", "aot", "aot_unpaired")

FROM_COORDINATOR = {"from": "coordinator"}
"""The validation context of a campaign that a coordinator has accepted."""


class Section(BaseModel):
    """A part of a campaign file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class BaseSection(Section):
    """The language model that everyone fine-tunes. Its weights are fetched by each agent, never by the coordinator."""

    model: Annotated[str, Field(min_length=1, max_length=400)]
    """Hub id or folder. An agent's settings may say where that model lies on its machine."""
    revision: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Branch, tag or commit at the hub. Pin a commit, so that all agents get the same weights."""
    quantization: Quantization | None = None
    """How the frozen weights are held in memory: `int8` (Dettmers et al. 2022) or `nf4`, four bits (Dettmers et al.
    2023), both by bitsandbytes; left out, not at all. The adapter is float32 all the same."""


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


class TrainingSection(Section):
    """Local training of one client in one round. Give either `steps` or `epochs`."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps a round."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the client's own rows a round, instead of `steps`."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Effective batch: rows an optimizer step. How many go through the model at once is the agent's own business."""
    max_length: Annotated[int, Field(ge=8)] = 512
    """Tokens a row, prompt and completion together. Longer rows are cut; one without any completion left is dropped."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Learning rate of the first round; constant inside a round."""
    min_learning_rate: Annotated[float, Field(ge=0)] | None = None
    """Where the cosine over rounds ends. At most `learning_rate`; left out, the rate stays there in every round."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """The client's optimizer, new in each round: AdamW without weight decay, or plain SGD."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Norm to which a step's gradient is clipped; `null` clips nothing."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Everything random in the campaign follows from it: the adapter's start, which clients and rows are drawn."""

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            message = "give either steps or epochs"
            raise ValueError(message)
        if self.min_learning_rate is not None and self.min_learning_rate > self.learning_rate:
            message = f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}"
            raise ValueError(message)
        return self

    def steps_for(self, n_rows: int) -> int:
        """Optimizer steps a round for a client with *n_rows* training rows."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        # rounded, for 1.1 * 100 is a little more than 110 and would cost a whole further step
        return max(1, math.ceil(round(self.epochs * n_rows / self.batch_size, 9)))

    def learning_rate_in(self, round_number: int, rounds: int) -> float:
        """The rate of a round (from 1): min + ½ (lr − min)(1 + cos(π (r−1) / R)); constant without a minimum."""
        if self.min_learning_rate is None:
            return self.learning_rate
        low, high = self.min_learning_rate, self.learning_rate
        return low + 0.5 * (high - low) * (1 + math.cos(math.pi * (round_number - 1) / rounds))


class DpoSection(Section):
    """Direct preference optimisation (Rafailov et al. 2023), where `kind` is `dpo`."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly the model is held to the reference: β of the loss −log σ(β (chosen's log ratio − rejected's))."""
    loss: DpoLoss = "sigmoid"
    """The loss that is trained, as TRL's DPO trainer names them; `sigmoid` is the paper's. Held-out losses are the
    paper's whatever is trained, so that campaigns can be compared. `aot` and `aot_unpaired` compare the pairs of a
    micro-batch with one another: their result depends on the agents' micro-batches."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of pairs whose order may be wrong, for the losses `exo_pair` and `robust`, which need one above 0, and for
    `aot` and `aot_unpaired`."""
    reference: Literal["base", "initial"] = "base"
    """What the model is held to, the same in every round: `base`, the base model alone, or `initial`, the base with
    global adapter 0 on it, for a campaign that starts from the adapter of another."""

    @model_validator(mode="after")
    def _smooths(self) -> Self:
        if self.loss in ("exo_pair", "robust") and not self.label_smoothing:
            message = f"label_smoothing: the loss {self.loss} needs it above 0"
            raise ValueError(message)
        if self.label_smoothing and self.loss not in _SMOOTHED:
            message = f"label_smoothing: the loss {self.loss} has none; those with one are {', '.join(_SMOOTHED)}"
            raise ValueError(message)
        return self


class DataSection(Section):
    """Which data the agents train on. What the name stands for is said in each agent's own settings."""

    name: Name
    """Logical name of the data."""
    template: Template = "chat"
    """How a row becomes text: `alpaca`, `vicuna`, or the tokenizer's own `chat` template."""


class AlgorithmSection(Section):
    """The federated algorithm."""

    name: str = "fedavg"
    """Its name; `fedloom algorithm list` shows all."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Its parameters."""

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> Self:
        if info.context is FROM_COORDINATOR:
            return self  # it knows its algorithms; whoever reads need not have them installed
        try:
            algorithm = algorithms.find(self.name)
        except algorithms.UnknownAlgorithm as error:
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
    """How much an update counts."""

    by: Literal["examples", "uniform"] = "examples"
    """By the client's number of training rows, or each the same."""
    max_examples: Annotated[int, Field(ge=1)] | None = None
    """A cap: row counts are declared by the clients themselves, and buy weight."""


class SelectionSection(Section):
    """Who takes part, and how many in a round."""

    clients_per_round: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    """Clients drawn for each round."""
    minimum: Annotated[int, Field(ge=1)] = 2
    """Fewest prepared clients to start with, and fewest updates of its own that close a round. At most
    `clients_per_round`."""
    labels: dict[Label, str] = Field(default_factory=dict)
    """Only agents whose enrolment token carried all of these labels."""

    @model_validator(mode="after")
    def _minimum_fits(self) -> Self:
        if self.clients_per_round != "all" and self.minimum > self.clients_per_round:
            message = f"minimum {self.minimum} is above clients_per_round {self.clients_per_round}"
            raise ValueError(message)
        return self


class StragglersSection(Section):
    """What is done about slow and failing clients."""

    over_selection: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Further clients drawn for a round, as a share of `selection.clients_per_round`: of 10 clients 0.3 draws 13, and
    the round closes with the first 10 updates (Bonawitz et al. 2019)."""
    late_updates: Literal["drop", "next_round"] = "drop"
    """What becomes of a client that is still training when its round closes: it is told to stop, or it goes on, is not
    drawn for the next round, and its update counts in that one."""
    staleness_exponent: Annotated[float, Field(ge=0)] = 0.5
    """A late update's weight is multiplied by (1 + s)^-a, s the rounds that it is late, which is 1, and a this exponent
    (Xie et al. 2019)."""
    under_minimum: Literal["extend", "replace", "fail"] = "extend"
    """What becomes of a round that has fewer than `selection.minimum` updates at its deadline. `extend`: another
    deadline, and work that nobody began goes to clients that were not drawn. `replace`: another deadline, and all
    missing work goes to clients that were not drawn, as far as there are any. `fail`: the campaign is paused."""
    set_aside_after: Annotated[int, Field(ge=1)] = 3
    """Rounds in a row that a client failed, or missed the deadline of, after which it is not drawn for a while."""
    set_aside_rounds: Annotated[int, Field(ge=0)] = 5
    """For how many rounds; one more failure after that sets it aside again. 0 sets nobody aside."""


class DeadlineSection(Section):
    """How long to wait for slow agents."""

    prepare_s: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds for agents to get ready; with `minimum` of them prepared, the campaign then starts without the rest, who
    join it in a later round."""
    round_s: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds for a round; with `minimum` updates it then closes without the rest. `stragglers` says what becomes of
    the rest, and of a round with fewer."""


class EvaluationSection(Section):
    """Held-out loss, computed by each agent on rows that training never sees. Only numbers leave."""

    every: Annotated[int, Field(ge=0)] = 1
    """Evaluate the global adapter after every n rounds, and adapter 0 and the last one; 0 never evaluates."""


class RetentionSection(Section):
    """What is kept, counted in rounds. What is collected keeps its digest in the lineage."""

    adapters: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    """Global adapters; number 0, the best and the last one are always kept."""
    server_state: Annotated[int, Field(ge=1)] = 5
    """The algorithm's state, at the coordinator and the clients. A rollback goes only to rounds whose state is kept."""
    updates: Annotated[int, Field(ge=0)] = 0
    """The clients' updates after their round has closed."""


class CampaignSpec(Section):
    """One federated fine-tuning job."""

    name: Name
    """What people call it."""
    kind: TrainingKind = "sft"
    """Kind of training: `sft`, supervised fine-tuning on prompt and completion; `dpo`, preference optimisation on
    prompt, chosen and rejected completion."""
    base: BaseSection
    lora: LoraSection = LoraSection()
    training: TrainingSection
    dpo: DpoSection = DpoSection()
    data: DataSection
    algorithm: AlgorithmSection = AlgorithmSection()
    weighting: WeightingSection = WeightingSection()
    rounds: Annotated[int, Field(ge=1, le=100_000)]
    """How many rounds."""
    start_from: StartFrom | None = None
    """Global adapter 0, where it is not to be drawn anew: another campaign's adapter, as `CAMPAIGN/final`,
    `CAMPAIGN/best` or `CAMPAIGN/NUMBER`, the campaign by its id or its name (the newest of that name). It has the same
    base model and the same `lora`."""
    selection: SelectionSection = SelectionSection()
    deadline: DeadlineSection = DeadlineSection()
    stragglers: StragglersSection = StragglersSection()
    evaluation: EvaluationSection = EvaluationSection()
    retention: RetentionSection = RetentionSection()

    @model_validator(mode="after")
    def _over_selects_from_a_number(self) -> Self:
        if self.stragglers.over_selection and self.selection.clients_per_round == "all":
            message = "stragglers.over_selection: there is nobody else to draw where selection.clients_per_round is all"
            raise ValueError(message)
        return self

    def evaluates(self, adapter_number: int) -> bool:
        """Whether the global adapter of that number is evaluated."""
        every = self.evaluation.every
        return every > 0 and (adapter_number % every == 0 or adapter_number == self.rounds)
