"""The CSV file of a comparison: every score, one a line, of all that was tried and of the table."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedloom.comparison.parts import CHOOSING, EVALUATION, TEST, VALIDATION
from fedloom.comparison.planning.hyperparameters import Hyperparameters, in_short
from fedloom.comparison.planning.methods import Method
from fedloom.comparison.results import Results
from fedloom.comparison.scoring import Scores
from fedloom.comparison.tasks.scores import TaskScore
from fedloom.exporting.csv_table import write_csv

_COUNTS = ("n", "n_asked", "n_published", "not_run")
_SETTING = ("method", "kind", "learning_rate", "params", "fields")
_COLUMNS = (*_SETTING, "seed", "split", "metric", "value", "task", *_COUNTS)


def write_results(results: Results, path: Path) -> None:
    """Write the file. Raises OSError."""
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, _COLUMNS, (dict(zip(_COLUMNS, line, strict=True)) for line in _lines(results)))


def _lines(results: Results) -> Iterator[Sequence[Any]]:
    for result in results.methods:
        for hyperparameters, tried in result.tried.items():
            setting = _setting(result.method, hyperparameters)
            first = results.seeds[0]
            if tried.failure:
                by = results.chosen_by
                split, metric = (CHOOSING if by.tasks else VALIDATION, by.metric) if by is not None else (TEST, None)
                yield *setting, first, split, metric, None, None, None, None, None, tried.failure
            yield from _of_rows(setting, first, VALIDATION, tried.scores)
            yield from _of_tasks(setting, first, CHOOSING, tried.tasks)
        if result.hyperparameters is not None:
            setting = _setting(result.method, result.hyperparameters)
            for seed, scores in result.scores.items():
                yield from _of_rows(setting, seed, TEST, scores)
            for seed, tasks in result.tasks.items():
                yield from _of_tasks(setting, seed, EVALUATION, tasks)


def _setting(method: Method, hyperparameters: Hyperparameters) -> tuple[str, ...]:
    params = " ".join(f"{name}={in_short(value)}" for name, value in hyperparameters.params)
    fields = " ".join(f"{name}={value}" for name, value in hyperparameters.fields)
    return method.name, method.kind, in_short(hyperparameters.learning_rate), params, fields


def _of_rows(setting: Sequence[str], seed: int, split: str, scores: Scores) -> Iterator[Sequence[Any]]:
    for metric, value in scores.items():
        yield *setting, seed, split, metric, value, None, None, None, None, None


def _of_tasks(setting: Sequence[str], seed: int, split: str, scores: Sequence[TaskScore]) -> Iterator[Sequence[Any]]:
    for score in scores:
        counts = (score.n, score.n_asked, score.n_published) if score.n_asked else (None, None, None)
        yield *setting, seed, split, score.metric, score.value, score.task, *counts, score.not_run
