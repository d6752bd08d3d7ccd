"""Direct preference optimisation: the chosen completion of each prompt becomes more likely than the rejected one.

Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model" (arXiv
2305.18290). A completion y has the reward r(y) = β (log π(y) − log π_ref(y)); the margin of a pair is r(chosen) −
r(rejected).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.kinds.base import KindSection
from shared.metrics import Better, Metric, Origin, Weight, losses

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
"""The losses of TRL's DPO trainer that need pairs of completions."""
_SMOOTHED = ("exo_pair", "robust", "aot", "aot_unpaired")


class Section(KindSection):
    """Direct preference optimisation (Rafailov et al. 2023), for campaigns of kind `dpo`."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """β of the loss −log σ(β (log ratio of chosen − log ratio of rejected)): a larger β keeps the model closer to the
    reference. The default is the paper's."""
    loss: DpoLoss = "sigmoid"
    """Training loss, by its name in TRL's DPO trainer; `sigmoid` is the paper's. The held-out loss is always the
    paper's, so that campaigns can be compared. `aot` and `aot_unpaired` compare the pairs of a micro-batch with one
    another, so their result depends on the agents' micro-batches."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Assumed share of pairs with the wrong order. The losses `exo_pair` and `robust` need a value above 0; `aot` and
    `aot_unpaired` accept one; all other losses need 0."""
    reference: Literal["base", "initial"] = "base"
    """The reference model, the same in every round: `base`, the base model without an adapter, or `initial`, the base
    model with global adapter 0, for a campaign that starts from another campaign's adapter."""

    @model_validator(mode="after")
    def _smooths(self) -> Self:
        if self.loss in ("exo_pair", "robust") and not self.label_smoothing:
            message = f"label_smoothing: the loss {self.loss} needs it above 0"
            raise ValueError(message)
        if self.label_smoothing and self.loss not in _SMOOTHED:
            message = f"label_smoothing: the loss {self.loss} has none; those with one are {', '.join(_SMOOTHED)}"
            raise ValueError(message)
        return self

    @property
    def reference_is_adapter_zero(self) -> bool:
        return self.reference == "initial"


def _preference(name: str, title: str, origin: Origin, weight: Weight) -> tuple[Metric, Metric]:
    """The mean margin of pairs, and the share of pairs whose chosen completion has the higher reward."""
    margin = Metric(
        name=f"{name}_margin",
        title=f"{title} margin",
        origin=origin,
        unit="nats a pair",
        better=Better.HIGHER,
        weight=weight,
    )
    accuracy = Metric(
        name=f"{name}_accuracy",
        title=f"{title} accuracy",
        origin=origin,
        unit="of pairs",
        better=Better.HIGHER,
        weight=weight,
        minimum=0,
        maximum=1,
    )
    return margin, accuracy


COMPLETIONS = ("chosen", "rejected")
LABELS = ()
METRICS = (
    *losses("nats a pair", Weight.ROWS),
    *_preference("held_out", "held-out", Origin.EVALUATION, Weight.ROWS),
    *_preference("reward", "reward", Origin.TRAINING, Weight.UPDATE),  # of each pair at its own step
)
