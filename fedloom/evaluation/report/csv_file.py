"""``results.csv``: a line for each task, metric and model."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedloom.evaluation.results import Results
from fedloom.evaluation.statistics.numbers import Number
from fedloom.evaluation.statistics.pairs import Difference
from fedloom.evaluation.tasks.base import TaskMetric
from fedloom.evaluation.words import in_unit
from fedloom.exporting.csv_table import write_csv
from shared.system.durable import atomic_text

_COLUMNS = (
    *("task", "metric", "model", "unit", "value", "low", "high", "method", "stderr", "n", "n_asked", "n_published"),
    *(
        "difference",
        "difference_low",
        "difference_high",
        "difference_n",
        "p",
        "flags",
        "problems",
        "not_run",
        "rule",
        "judge",
    ),
)
"""Shares are in per cent, as ``unit`` says: values, intervals, errors, differences, and the shares of flags."""


def write_csv_file(results: Results, path: Path) -> None:
    """Write the file, atomically. Raises OSError."""
    text = io.StringIO()
    write_csv(text, _COLUMNS, _rows(results))
    atomic_text(path, text.getvalue())


def _rows(results: Results) -> Iterator[dict[str, Any]]:
    for task in results.tasks:
        for model in task.models:
            differences = {each.metric.name: each for each in model.differences}
            for number in model.numbers:
                facts = {"task": task.name, "metric": number.metric.name, "model": model.model}
                facts |= {"judge": str(task.judge)} if task.judge is not None else {}
                yield facts | _number(number) | _difference(differences.get(number.metric.name))


def _number(number: Number) -> dict[str, Any]:
    metric, confidence = number.metric, number.confidence
    found = {"value": number.value, "stderr": number.stderr}
    if confidence is not None:
        found |= {"low": confidence.low, "high": confidence.high}
    counts = {name: getattr(number, name) for name in ("n", "n_asked", "n_published")}
    shares = {flag: f"{number.share(flag):.1%}" for flag in number.flags}
    said = {"flags": shares or None, "problems": dict(number.problems) or None, "not_run": number.not_run or None}
    how = {"unit": "%" if metric.is_share else None, "method": confidence.method if confidence else None}
    return _in_unit(found, metric) | counts | said | how | {"rule": metric.rule}


def _difference(difference: Difference | None) -> dict[str, Any]:
    if difference is None:
        return {}
    found = {"difference": difference.value}
    if difference.confidence is not None:
        found |= {"difference_low": difference.confidence.low, "difference_high": difference.confidence.high}
    return _in_unit(found, difference.metric) | {"difference_n": difference.n, "p": difference.p}


def _in_unit(values: dict[str, float | None], metric: TaskMetric) -> dict[str, float | None]:
    return {name: in_unit(value, metric) if value is not None else None for name, value in values.items()}
