"""Outcomes to numbers: each metric with its interval, how many items it is of, and what happened to the others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedloom.evaluation.statistics.group_means import GroupMeans, group_means
from fedloom.evaluation.statistics.intervals import Confidence, bootstrap, interval_of, spread, wilson
from fedloom.evaluation.statistics.scored_items import (
    additive,
    is_right_or_wrong,
    scored_items,
    value_of,
    weights_of,
)
from fedloom.evaluation.tasks.base import Outcome, Task, TaskMetric

SEED = 0
CORPUS_RESAMPLES = 1_000
"""For metrics that are computed anew on each resample, which takes longer."""


@dataclass(frozen=True)
class Number:
    """One metric of one model in one task.

    Args:
        task: its name.
        metric: what was measured.
        value: over the items that count; None if none does.
        confidence: the interval at 95 %; None if the items do not tell how the value varies.
        stderr: the standard error; None if it is unknown.
        n: items that count.
        n_asked: items that were asked.
        n_published: items of the published set.
        flags: how many of the items that count have each flag, such as ``unparsed``.
        problems: how many of the asked items do not count, by reason.
        groups: means by group, where a task has several; their unweighted mean stands beside ``value``, which is
            weighted by size.
        not_run: why there is no value; empty if there is one.
    """

    task: str
    metric: TaskMetric
    value: float | None
    confidence: Confidence | None
    stderr: float | None
    n: int
    n_asked: int
    n_published: int
    flags: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, int] = field(default_factory=dict)
    groups: GroupMeans | None = None
    not_run: str = ""

    @property
    def n_problems(self) -> int:
        """Items that were asked and do not count."""
        return self.n_asked - self.n

    def share(self, flag: str) -> float:
        """The share of the items that count with a flag."""
        return self.flags.get(flag, 0) / self.n if self.n else 0.0


def numbers_of(task: Task, outcomes: Sequence[Outcome], n_published: int, seed: int = SEED) -> list[Number]:
    """All metrics of a task.

    Args:
        task: what was run.
        outcomes: of all items that were asked; several of an item where the task draws several samples.
        n_published: items of the published set.
        seed: of the resamples.
    """
    return [_number(task, metric, outcomes, n_published, seed) for metric in task.metrics]


def not_run(task: Task, reason: str, n_published: int = 0) -> list[Number]:
    """The metrics of a task that was not run, such as one whose file is missing."""
    return [Number(task.name, metric, None, None, None, 0, 0, n_published, not_run=reason) for metric in task.metrics]


def _number(task: Task, metric: TaskMetric, outcomes: Sequence[Outcome], n_published: int, seed: int) -> Number:
    scored = scored_items(metric, outcomes)
    items = list(scored.items.values())
    problems = scored.problem_counts()
    value = confidence = stderr = groups = None
    problem = next(iter(problems), "no item was asked")
    if items:
        value = value_of(task, metric, items)
    if value is not None and not math.isfinite(value):
        value, problem = None, "its value is beyond all numbers"
    if value is not None:
        confidence, stderr = _uncertainty(task, metric, items, value, seed)
        groups = group_means(metric, items)
    return Number(
        task=task.name,
        metric=metric,
        value=value,
        confidence=confidence,
        stderr=stderr if stderr is not None and math.isfinite(stderr) else None,
        n=len(items),
        n_asked=scored.n_asked,
        n_published=n_published,
        flags=scored.flag_counts(),
        problems=problems,
        groups=groups,
        not_run="" if value is not None else problem,
    )


def _uncertainty(
    task: Task, metric: TaskMetric, items: Sequence[Sequence[Outcome]], value: float, seed: int
) -> tuple[Confidence | None, float | None]:
    if metric.kind == "mean" and all(len(found) == 1 for found in items):
        values = [found[0].values[metric.name] for found in items]
        weights = [weights_of(metric, found)[0] for found in items]
        if is_right_or_wrong(metric, values) and set(weights) == {1}:
            n = len(values)
            return wilson(sum(values), n), math.sqrt(value * (1 - value) / n)
    if len(items) < 2:
        return None, None
    found = additive(metric, items)
    if found is not None:
        rows, compute = found
        if math.isclose(float(compute(rows.sum(axis=0))), value, rel_tol=1e-9, abs_tol=1e-12):
            return bootstrap(rows, compute, seed)
    return _recomputed(task, metric, items, value, seed)


def _recomputed(
    task: Task, metric: TaskMetric, items: Sequence[Sequence[Outcome]], value: float, seed: int
) -> tuple[Confidence | None, float | None]:
    generator = np.random.default_rng(seed)
    n = len(items)
    draws = (generator.integers(0, n, size=n) for _ in range(CORPUS_RESAMPLES))
    values = np.array([value_of(task, metric, [items[place] for place in draw]) for draw in draws])
    return interval_of(values, value), spread(values)
