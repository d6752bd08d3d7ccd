"""Means over tasks, such as the finance suite's over three sets and over four: only if all of them ran."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedloom.evaluation.statistics.intervals import Confidence, normal, standard_error
from fedloom.evaluation.statistics.numbers import Number
from fedloom.evaluation.tasks.base import TaskMetric


@dataclass(frozen=True)
class Average:
    """What is averaged.

    Args:
        name: such as ``finance_3``.
        title: for tables.
        metric: that is averaged, as each task has it.
        tasks: their names.
    """

    name: str
    title: str
    metric: TaskMetric
    tasks: Sequence[str]


@dataclass(frozen=True)
class AverageValue:
    """The unweighted mean of a metric over tasks.

    Args:
        average: what is averaged.
        value: None if a task has no value.
        confidence: the interval at 95 %; None if one of the tasks has none.
        not_run: why there is no value, naming each task that is missing; empty if there is one.
    """

    average: Average
    value: float | None
    confidence: Confidence | None
    not_run: str = ""


def average_of(average: Average, numbers: Mapping[str, Number], titles: Mapping[str, str]) -> AverageValue:
    """The mean over tasks. A smaller mean is never given in its place.

    Args:
        average: what to average.
        numbers: of the average's metric, by task.
        titles: of tasks by name, for people.
    """
    found = [numbers.get(task) for task in average.tasks]
    missing = [
        task for task, number in zip(average.tasks, found, strict=True) if number is None or number.value is None
    ]
    if missing:
        return AverageValue(average, None, None, f"needs {', '.join(titles.get(n, n) for n in missing)}")
    there = [number for number in found if number is not None]
    value = math.fsum(number.value for number in there if number.value is not None) / len(there)
    # from the intervals, as the standard error of a share of 0 or 1 is 0
    errors = [standard_error(number.confidence) for number in there if number.confidence is not None]
    confidence = normal(value, math.hypot(*errors) / len(errors)) if len(errors) == len(there) else None
    return AverageValue(average, value, confidence)
