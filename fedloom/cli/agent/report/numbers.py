"""The numbers of a report: values of each model, and differences on the same rows with intervals at 95 %."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedloom.cli.agent.report.own_metric import OwnMetric
from fedloom.evaluation.statistics.intervals import Confidence, bonett_price, bootstrap, wilson
from shared.metrics import Metric, Weight

if TYPE_CHECKING:
    from agent.orders.measure import MeasuredRow
    from agent.report.measuring import MeasuredModel
    from agent.report.report import OwnReport

_SEED = 0


@dataclass(frozen=True)
class Value:
    """A number with its interval, if it has one."""

    value: float
    confidence: Confidence | None


@dataclass(frozen=True)
class Share:
    """How many of the answered rows are answered exactly, with the interval of the share."""

    n_right: int
    n: int
    confidence: Confidence


@dataclass(frozen=True)
class Difference:
    """How a model differs from another on the rows that both were asked: in loss, in exact answers, in the own metric.

    Each is None where it is not known.
    """

    than: str
    loss: Value | None
    exact: Value | None
    own: Value | None


@dataclass(frozen=True)
class ModelNumbers:
    """The numbers of one model. differences: to the base model, and to the one that was trained alone."""

    measured: "MeasuredModel"
    exact: Share | None
    own: Value | None
    differences: Sequence[Difference]

    @property
    def name(self) -> str:
        return self.measured.model.name

    @property
    def loss(self) -> float:
        return self.measured.loss


@dataclass(frozen=True)
class ReportNumbers:
    """All numbers of a report.

    Args:
        report: the report.
        loss: what the held-out loss is.
        own_name: of the owner's metric; empty without one.
        models: as in the report.
    """

    report: "OwnReport"
    loss: Metric
    own_name: str
    models: Sequence[ModelNumbers]

    @property
    def best(self) -> ModelNumbers | None:
        """The adapter with the lowest loss; None if no loss is a number."""
        adapters = [each for each in self.models if each.measured.model.kind == "adapter" and np.isfinite(each.loss)]
        return min(adapters, key=lambda each: each.loss, default=None)

    def named(self, name: str) -> ModelNumbers | None:
        """The numbers of a model by its name."""
        return next((each for each in self.models if each.name == name), None)

    @property
    def n_held_out(self) -> int:
        return self.report.base.found.n_held_out

    @property
    def n_asked(self) -> int:
        """Rows that were asked."""
        return len(self.report.base.rows)

    @property
    def n_unanswered(self) -> int:
        """Rows of them whose prompts leave no room for an answer."""
        return sum(row.answer is None for row in self.report.base.rows)


def numbers_of(report: "OwnReport", metric: OwnMetric | None) -> ReportNumbers:
    """Compute all numbers. Raises InvalidOption if the owner's metric gives none."""
    has_expected, loss = report.subject.has_expected_answers, report.subject.loss
    compared = [each for each in (report.base, report.alone) if each is not None]
    # once for each model: a function that is not the same twice would have means and differences of other values
    own = {each.model.name: metric.values(each.rows) for each in report.models} if metric is not None else {}
    models = []
    for each in report.models:
        earlier = [other for other in compared if other is not each and each is not report.base]
        models.append(
            ModelNumbers(
                measured=each,
                exact=share_of(each.rows) if has_expected else None,
                own=_mean(own.get(each.model.name, ())),
                differences=[_difference(other, each, loss, own, has_expected=has_expected) for other in earlier],
            )
        )
    return ReportNumbers(report, loss, metric.name if metric is not None else "", models)


def share_of(rows: "Sequence[MeasuredRow]") -> Share | None:
    """The share of exact answers, without the white space around them; None if no row was answered."""
    right = _exact(rows)
    return Share(sum(right), len(right), wilson(sum(right), len(right))) if right else None


def _exact(rows: "Sequence[MeasuredRow]") -> list[bool]:
    return [row.answer.strip() == row.expected.strip() for row in rows if row.answer is not None]


def _difference(
    one: "MeasuredModel",
    other: "MeasuredModel",
    loss: Metric,
    own: Mapping[str, Sequence[float]],
    *,
    has_expected: bool,
) -> Difference:
    values = _mean_difference(own.get(one.model.name, ()), own.get(other.model.name, ()))
    exact = exact_difference(_exact(one.rows), _exact(other.rows)) if has_expected else None
    return Difference(one.model.name, loss_difference(one.rows, other.rows, loss.weight), exact, values)


def loss_difference(
    one: "Sequence[MeasuredRow]", other: "Sequence[MeasuredRow]", weight: Weight | None
) -> Value | None:
    """Loss of the other minus loss of the one, over the same rows, each with its weight in the mean loss.

    None if a row has no loss by itself.
    """
    sums = []
    for a, b in zip(one, other, strict=True):
        if a.loss is None or b.loss is None:
            return None
        w = a.n_tokens if weight is Weight.TOKENS else 1
        sums.append((w * (b.loss - a.loss), w))
    rows = np.array(sums, np.float64)  # (n, 2)
    if not len(rows):
        return None
    value = float(rows[:, 0].sum() / rows[:, 1].sum())
    return Value(value, bootstrap(rows, lambda sums: sums[..., 0] / sums[..., 1], _SEED)[0] if len(rows) > 1 else None)


def exact_difference(one: Sequence[bool], other: Sequence[bool]) -> Value | None:
    """Share of exact answers of the other minus that of the one, over the same rows."""
    if not one:
        return None
    pairs = list(zip(one, other, strict=True))
    n_lost, n_won = pairs.count((True, False)), pairs.count((False, True))
    return Value((n_won - n_lost) / len(pairs), bonett_price(n_lost, n_won, len(pairs)))


def _mean(values: Sequence[float]) -> Value | None:
    if not values:
        return None
    rows = np.array(values, np.float64)[:, np.newaxis]  # (n, 1)
    n = len(values)
    return Value(float(rows.mean()), bootstrap(rows, lambda sums: sums[..., 0] / n, _SEED)[0] if n > 1 else None)


def _mean_difference(one: Sequence[float], other: Sequence[float]) -> Value | None:
    return _mean([b - a for a, b in zip(one, other, strict=True)])


def longest_unmatched(numbers: ReportNumbers, max_new_tokens: int) -> int:
    """Rows whose expected answers are surely longer than an answer may be, so that none can be exact."""
    return sum(row.n_tokens > max_new_tokens + 1 for row in numbers.report.base.rows)
