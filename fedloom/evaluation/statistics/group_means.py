"""Means by group, and their unweighted mean: of subjects, of the parts of a suite."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedloom.evaluation.statistics.intervals import Confidence, normal, wilson
from fedloom.evaluation.statistics.scored_items import is_right_or_wrong, mean_of
from fedloom.evaluation.tasks.base import Outcome, TaskMetric


@dataclass(frozen=True)
class GroupMean:
    """The mean of one group. n: its items. confidence: None where values are not 0 or 1."""

    value: float
    n: int
    confidence: Confidence | None


@dataclass(frozen=True)
class GroupMeans:
    """Means by group.

    Args:
        groups: in the order of their names.
        mean: of the groups, each with the same weight.
        confidence: of ``mean``; None if a group has one item, or no value differs within any group.
    """

    groups: Mapping[str, GroupMean]
    mean: float
    confidence: Confidence | None


def group_means(metric: TaskMetric, items: Sequence[Sequence[Outcome]]) -> GroupMeans | None:
    """The means of a metric by group; None if it is no mean over items, or there is one group only."""
    groups: defaultdict[str, list[Sequence[Outcome]]] = defaultdict(list)
    if metric.kind != "mean":
        return None
    for found in items:
        groups[found[0].group].append(found)
    if len(groups) < 2:
        return None
    means = {name: _mean(metric, groups[name]) for name in sorted(groups)}
    mean = math.fsum(each.value for each in means.values()) / len(means)
    confidence = None
    if all(len(members) > 1 for members in groups.values()):
        variances = (_variance_of_mean([mean_of(metric, [found]) for found in members]) for members in groups.values())
        stderr = math.sqrt(math.fsum(variances)) / len(groups)
        confidence = normal(mean, stderr) if stderr > 0 else None
    return GroupMeans(means, mean, confidence)


def _mean(metric: TaskMetric, items: Sequence[Sequence[Outcome]]) -> GroupMean:
    values, n = [mean_of(metric, [found]) for found in items], len(items)
    is_share = is_right_or_wrong(metric, values)
    return GroupMean(mean_of(metric, items), n, wilson(math.fsum(values), n) if is_share else None)


def _variance_of_mean(values: Sequence[float]) -> float:
    """Unbiased, so that the sum over many small groups is right."""
    n = len(values)
    mean = math.fsum(values) / n
    return math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n
