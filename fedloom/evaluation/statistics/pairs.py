"""Two models on the same items: the difference with its interval, and McNemar's test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedloom.evaluation.statistics.intervals import Confidence, Floats, Sums, bonett_price, bootstrap, interval_of
from fedloom.evaluation.statistics.numbers import CORPUS_RESAMPLES, SEED
from fedloom.evaluation.statistics.scored_items import additive, is_right_or_wrong, scored_items, value_of
from fedloom.evaluation.tasks.base import Outcome, Task, TaskMetric

Grouped = Sequence[Sequence[Outcome]]


@dataclass(frozen=True)
class Difference:
    """How much a second model differs from a first in one metric.

    Args:
        task, metric: what was measured.
        value: second − first, over the items that count for both; None if there are none.
        confidence: the interval at 95 %, by bootstrap over pairs. If all differ alike, that of Bonett and Price where
            items are right or wrong, and None elsewhere.
        p: of McNemar's exact test, two-sided; None unless each item is right or wrong.
        n: items that count for both.
        n_asked_otherwise: items of the n whose prompts differ between the models, as with two chat templates.
        not_compared: why there is no value; empty if there is one.
    """

    task: str
    metric: TaskMetric
    value: float | None
    confidence: Confidence | None
    p: float | None
    n: int
    n_asked_otherwise: int
    not_compared: str = ""


def difference_of(
    task: Task, metric: TaskMetric, first: Sequence[Outcome], second: Sequence[Outcome], seed: int = SEED
) -> Difference:
    """Compare two models.

    Args:
        task, metric: what was measured.
        first, second: their outcomes.
        seed: of the resamples.
    """
    one, other = scored_items(metric, first), scored_items(metric, second)
    names = [name for name in one.items if name in other.items]
    a, b = [one.items[name] for name in names], [other.items[name] for name in names]
    value = value_of(task, metric, b) - value_of(task, metric, a) if names else None
    return Difference(
        task=task.name,
        metric=metric,
        value=value,
        confidence=_confidence(task, metric, a, b, value, seed) if value is not None and len(names) > 1 else None,
        p=_p(metric, a, b) if names else None,
        n=len(names),
        n_asked_otherwise=sum(_prompts(x) != _prompts(y) for x, y in zip(a, b, strict=True)),
        not_compared="" if names else "no item counts for both",
    )


def mcnemar(n_lost: int, n_won: int) -> float:
    """McNemar's exact two-sided p: how likely so uneven a split is, if items change to either side alike.

    Args:
        n_lost: items that the first model has right and the second wrong.
        n_won: the other way round.
    """
    n = n_lost + n_won
    term, tail = 1, 0
    for k in range(min(n_lost, n_won) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, float(2 * tail / (1 << n)))


def _p(metric: TaskMetric, a: Grouped, b: Grouped) -> float | None:
    changes = _changes(metric, a, b)
    return mcnemar(*changes) if changes is not None else None


def _changes(metric: TaskMetric, a: Grouped, b: Grouped) -> tuple[int, int] | None:
    """Items that the second model lost and won; None unless each is right or wrong."""
    if metric.kind != "mean" or any(len(found) != 1 for found in [*a, *b]):
        return None
    pairs = [(x[0].values[metric.name], y[0].values[metric.name]) for x, y in zip(a, b, strict=True)]
    if not is_right_or_wrong(metric, (value for pair in pairs for value in pair)):
        return None
    return pairs.count((1.0, 0.0)), pairs.count((0.0, 1.0))


def _confidence(task: Task, metric: TaskMetric, a: Grouped, b: Grouped, value: float, seed: int) -> Confidence | None:
    left, right = additive(metric, a), additive(metric, b)
    if left is not None and right is not None:
        rows, compute = _joined(left, right)
        if math.isclose(float(compute(rows.sum(axis=0))), value, rel_tol=1e-9, abs_tol=1e-9):
            found = bootstrap(rows, compute, seed)[0]
            changes = _changes(metric, a, b)
            return bonett_price(*changes, len(a)) if found is None and changes is not None else found
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(CORPUS_RESAMPLES):
        places = generator.integers(0, len(a), size=len(a))
        values.append(
            value_of(task, metric, [b[place] for place in places])
            - value_of(task, metric, [a[place] for place in places])
        )
    return interval_of(np.array(values), value)


def _joined(left: tuple[Floats, Sums], right: tuple[Floats, Sums]) -> tuple[Floats, Sums]:
    (rows_a, value_a), (rows_b, value_b) = left, right
    width = rows_a.shape[1]
    if width == rows_b.shape[1] == 1:  # two means: the mean of the differences
        return rows_b - rows_a, value_a
    rows = np.concatenate([rows_a, rows_b], axis=1)
    return rows, lambda sums: value_b(sums[..., width:]) - value_a(sums[..., :width])


def _prompts(found: Sequence[Outcome]) -> list[str]:
    return [outcome.prompt_sha256 for outcome in found]
