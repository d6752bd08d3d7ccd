"""Outcomes by item, and how the items of a metric add up to its value."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedloom.evaluation.asking.problems import counts_by_reason
from fedloom.evaluation.statistics.intervals import Floats, Sums
from fedloom.evaluation.tasks.base import Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.label_metrics import LABEL_METRICS, one_hot


@dataclass(frozen=True)
class ScoredItems:
    """The outcomes of one model in one task, as one metric reads them.

    Args:
        items: the outcomes of each item that counts, by its id; several where a task draws several samples.
        problems: why each other item does not count, by its id.
        flags: the flags of each item, whether it counts or not.
    """

    items: Mapping[str, Sequence[Outcome]]
    problems: Mapping[str, str]
    flags: Mapping[str, frozenset[str]]

    @property
    def n_asked(self) -> int:
        """How many items there are, with those that do not count."""
        return len(self.flags)

    def flag_counts(self) -> dict[str, int]:
        """The number of items that count with each flag."""
        return dict(sorted(Counter(flag for name in self.items for flag in self.flags[name]).items()))

    def problem_counts(self) -> dict[str, int]:
        """The number of items with each problem, the most frequent first."""
        return counts_by_reason(self.problems.values())


def scored_items(metric: TaskMetric, outcomes: Sequence[Outcome]) -> ScoredItems:
    """Sort outcomes by item. An item does not count if any of its outcomes has a problem, or no value of the metric."""
    items: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        items[outcome.item].append(outcome)
    problems = {}
    for name, found in items.items():
        if problem := next(filter(None, (_problem(metric, outcome) for outcome in found)), ""):
            problems[name] = problem
    return ScoredItems(
        items={name: found for name, found in items.items() if name not in problems},
        problems=problems,
        flags={name: frozenset().union(*(outcome.flags for outcome in found)) for name, found in items.items()},
    )


def additive(metric: TaskMetric, items: Sequence[Sequence[Outcome]]) -> tuple[Floats, Sums] | None:
    """What each item adds to sums that give the metric, and how; None if the metric is no function of sums.

    Args:
        metric: a mean, or F1 over labels.
        items: the outcomes of each item.

    Returns:
        An array of shape (items, k), and the function from its sum over items to the metric.
    """
    if metric.kind == "mean":
        sizes = np.array([sum(weights_of(metric, found)) for found in items], dtype=np.float64)
        sums = np.array([_sum(metric, found) for found in items])
        if (sizes == sizes[0]).all():
            return (sums / sizes)[:, None], lambda total: total[..., 0] / len(sizes)
        return np.stack([sums, sizes], axis=1), lambda total: total[..., 0] / total[..., 1]
    compute = LABEL_METRICS.get(metric.name)
    if metric.kind == "labels" and compute is not None and metric.labels:
        pairs = [outcome.label for found in items for outcome in found if outcome.label is not None]
        sizes = np.array([len(found) for found in items], dtype=np.float64)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        rows = np.add.reduceat(one_hot(pairs, metric.labels), starts, axis=0)
        return rows, lambda total: compute(total, len(metric.labels))
    return None


def value_of(task: Task, metric: TaskMetric, items: Sequence[Sequence[Outcome]]) -> float:
    """The value of a metric over items; there is at least one."""
    if metric.kind != "mean":
        return float(task.compute(metric, [outcome for found in items for outcome in found]))
    return mean_of(metric, items)


def mean_of(metric: TaskMetric, items: Sequence[Sequence[Outcome]]) -> float:
    """The mean of values by their weights; there is at least one item."""
    return math.fsum(_sum(metric, found) for found in items) / sum(sum(weights_of(metric, found)) for found in items)


def weights_of(metric: TaskMetric, found: Sequence[Outcome]) -> list[int]:
    """How much the value of each outcome counts."""
    return [outcome.weights.get(metric.name, 1) for outcome in found]


def is_right_or_wrong(metric: TaskMetric, values: Iterable[float]) -> bool:
    """Whether values are 0 or 1 by their nature. Ratings may all be 1 as well."""
    return metric.is_share and set(values) <= {0.0, 1.0}


def _sum(metric: TaskMetric, found: Sequence[Outcome]) -> float:
    weights = weights_of(metric, found)
    return math.fsum(n * outcome.values[metric.name] for n, outcome in zip(weights, found, strict=True))


def _problem(metric: TaskMetric, outcome: Outcome) -> str:
    if outcome.problem:
        return outcome.problem
    match metric.kind:
        case "mean":
            value = outcome.values.get(metric.name)
            if value is None:
                return outcome.missing.get(metric.name) or f"no value of {metric.name}"
            return "" if math.isfinite(value) else f"{metric.name} is not finite"
        case "labels":
            return "" if outcome.label is not None else "no label"
        case "corpus":
            return "" if outcome.texts is not None else "no text"
