"""The registry of metrics: what each is called, its unit, which direction is better, and how clients are averaged.

A campaign has the metrics of every training (``TRAINING``), of every evaluation (``EVALUATION``) and of every round
(``ROUND``), and those of its kind of training. To add a metric, add an entry here or to the kind, and let the code that
measures it return the value under the entry's name. Everything that shows metrics reads the registry.
"""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from shared.validation.described import Described

MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_@]*)?$", max_length=40)]
"""Of a benchmark it is ``TASK.METRIC``."""
MAX_METRICS = 64
"""Most metrics of one report. The wire refuses more, so that reports stay small."""
Values = Annotated[dict[MetricName, Annotated[FiniteFloat, Field(strict=True)]], Field(max_length=MAX_METRICS)]
"""Metrics by name."""
ReportLevel = Literal["none", "round", "live"]
"""What an owner lets out of what is measured on its rows. ``none``: nothing; ``round``: rounded means, once a round and
once an adapter; ``live``: everything, in full, and while it is measured."""


class Origin(StrEnum):
    """Who measures a metric, and when."""

    TRAINING = "training"
    """A client, in a training task."""
    EVALUATION = "evaluation"
    """A client, in an evaluation of a global adapter on its held-out rows."""
    ROUND = "round"
    """The coordinator, when it aggregates a round."""
    BENCHMARK = "benchmark"
    """An agent, in a benchmark of a global adapter on public data."""


class Better(StrEnum):
    """Which values are better."""

    LOWER = "lower"
    HIGHER = "higher"


class Weight(StrEnum):
    """A client's weight in the mean over the clients."""

    UPDATE = "update"
    """The weight of its update in the round."""
    ROWS = "rows"
    """Its number of held-out rows."""
    TOKENS = "tokens"
    """Its number of supervised held-out tokens."""


class Metric(Described):
    """One metric."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: MetricName
    """Its name in messages and listings."""
    title: str
    """Its name for people, in lower case."""
    origin: Origin
    unit: str = ""
    """Unit of the values, such as `nats a token`; empty for a plain number."""
    better: Better | None = None
    """Which values are better; null if neither is."""
    weight: Weight | None = None
    """Weight of a client's value in the mean over the clients; null if values are not averaged."""
    minimum: float | None = None
    maximum: float | None = None

    @property
    def is_share(self) -> bool:
        """Whether the values are shares, from 0 to 1."""
        return (self.minimum, self.maximum) == (0, 1)

    def text(self, value: float) -> str:
        """A value for people, without the unit; a share in percent."""
        return f"{value:.1%}" if self.is_share else f"{value:.4f}"

    def with_unit(self, value: float) -> str:
        """A value for people, with the unit."""
        return f"{self.text(value)} {self.unit}".rstrip()

    def is_better(self, value: float, than: float, by: float = 0.0) -> bool:
        """Whether a value is better than another by more than *by*. False if neither direction is better."""
        if self.better is None:
            return False
        return than - value > by if self.better is Better.LOWER else value - than > by

    def is_worse(self, value: float, than: float) -> bool:
        """Whether a value is worse than another, as far as ``text`` shows it. False if neither direction is better."""
        if self.better is None or self.text(value) == self.text(than):
            return False
        return value > than if self.better is Better.LOWER else value < than

    def problem(self, value: float) -> str | None:
        """What is wrong with a value; None if it is within the bounds."""
        if self.minimum is not None and value < self.minimum:
            return f"{value:g} is below {self.minimum:g}"
        if self.maximum is not None and value > self.maximum:
            return f"{value:g} is above {self.maximum:g}"
        return None

    def mean(self, values: Iterable[tuple[float, float]]) -> float:
        """The mean of pairs of weight and value. Σ m_k n_k / Σ n_k; the sum of the weights must be above 0."""
        pairs = list(values)
        # scaled first, without rounding: finite weights and values may have an infinite sum
        heaviest = _power_of_two(max(weight for weight, _ in pairs))
        largest = _power_of_two(max(abs(value) for _, value in pairs))
        total = math.fsum(weight / heaviest for weight, _ in pairs)
        mean = math.fsum((value / largest) * (weight / heaviest) for weight, value in pairs) / total
        # rounding may take the mean out of the values' range
        lowest, highest = min(value for _, value in pairs), max(value for _, value in pairs)
        return min(max(mean * largest, lowest), highest)


def _power_of_two(value: float) -> float:
    """The power of two at most *value*, which is at least 0; 1 for 0."""
    return math.ldexp(1.0, math.frexp(value)[1] - 1) if value else 1.0


HELD_OUT_LOSS = "held_out_loss"
"""The metric that every kind of training has."""
TRAIN_LOSS_MEAN = "train_loss_mean"
LOSSES_OF_STEPS = ("train_loss_first", "train_loss_last")
"""Losses of single steps, which leave an owner only with the level ``live``."""
HELD_OUT_COUNTS = {Weight.ROWS: "held_out_rows", Weight.TOKENS: "held_out_tokens"}
"""The metrics that hold the weights of evaluations."""


def losses(unit: str, weight: Weight) -> tuple[Metric, ...]:
    """The losses of a kind of training, in training and on held-out rows.

    weight: a client's weight in the mean held-out loss.
    """
    training = (
        *zip(LOSSES_OF_STEPS, ("train loss of the first step", "train loss of the last step"), strict=True),
        (TRAIN_LOSS_MEAN, "train loss"),
    )
    return (
        Metric(
            name=HELD_OUT_LOSS,
            title="held-out loss",
            origin=Origin.EVALUATION,
            unit=unit,
            better=Better.LOWER,
            weight=weight,
        ),
        *(
            Metric(
                name=name,
                title=title,
                origin=Origin.TRAINING,
                unit=unit,
                better=Better.LOWER,
                weight=Weight.UPDATE,
            )
            for name, title in training
        ),
    )


def _count(name: str, title: str, origin: Origin, unit: str, *, at_least: int = 0) -> Metric:
    return Metric(name=name, title=title, origin=origin, unit=unit, minimum=at_least, maximum=2**53)


TRAINING = (
    _count("steps", "steps", Origin.TRAINING, "steps"),
    _count("tokens", "tokens", Origin.TRAINING, "tokens"),
    _count("tokens_per_s", "speed", Origin.TRAINING, "tokens/s"),
    _count("seconds", "duration", Origin.TRAINING, "s"),
    _count("peak_memory_bytes", "peak memory", Origin.TRAINING, "bytes"),
)
"""Of every training: optimizer steps that changed the weights; tokens without padding; speed, duration and memory."""

EVALUATION = (
    _count("held_out_rows", "held-out rows", Origin.EVALUATION, "rows", at_least=1),
    _count("held_out_tokens", "held-out tokens", Origin.EVALUATION, "tokens", at_least=1),
)
"""Of every evaluation: the sizes of the held-out data. A row of DPO is a pair; tokens are the supervised ones."""

ROUND = (
    Metric(name="update_norm", title="update norm", origin=Origin.ROUND, minimum=0),
    Metric(name="factor_gap", title="factor gap", origin=Origin.ROUND, better=Better.LOWER, minimum=0),
    Metric(
        name="factor_gap_relative", title="relative factor gap", origin=Origin.ROUND, better=Better.LOWER, minimum=0
    ),
)
"""Of every round: ‖x⁺ − x‖ of the global adapter. Of those whose adapter is evaluated: the factor gap, and its ratio to
the clients' mean movement."""


COMMON = (*TRAINING, *EVALUATION, *ROUND)
"""The metrics of every campaign, beside the losses and others of its kind."""

_WEIGHTS: Mapping[Origin, frozenset[Weight | None]] = {
    Origin.TRAINING: frozenset({None, Weight.UPDATE}),
    Origin.EVALUATION: frozenset({None, Weight.ROWS, Weight.TOKENS}),
    Origin.ROUND: frozenset({None}),
    Origin.BENCHMARK: frozenset({None}),
}
"""The weights that exist where a metric is measured."""


def problem(metric: Metric) -> str | None:
    """What contradicts itself in a metric; None if nothing does."""
    if metric.weight not in _WEIGHTS[metric.origin]:
        known = ", ".join(sorted(weight for weight in _WEIGHTS[metric.origin] if weight is not None)) or "none"
        return f"{metric.name}: a metric of {metric.origin} has no weight {metric.weight}; known are {known}"
    if metric.minimum is not None and metric.maximum is not None and metric.minimum > metric.maximum:
        return f"{metric.name}: its minimum is above its maximum"
    return None


def by_name(metrics: Iterable[Metric]) -> Mapping[str, Metric]:
    """Metrics by their names. Raises ValueError if two have one name."""
    found: dict[str, Metric] = {}
    for metric in metrics:
        if metric.name in found:
            raise ValueError(f"two metrics are called {metric.name}")
        found[metric.name] = metric
    return found
