"""Results of a comparison: the scores, their means and spreads over the seeds, the CSV file."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fedloom.comparison.criterion import Criterion
from fedloom.comparison.methods import Hyperparameters, Method, MethodKind
from fedloom.comparison.scoring import Scores
from fedloom.comparison.tasks.scores import TaskScore, values_of
from fedloom.csv_table import write_csv

_COUNTS = ("n", "n_asked", "n_published", "not_run")
_COLUMNS = ("method", "kind", "learning_rate", "params", "seed", "split", "metric", "value", "task", *_COUNTS)
_NO_COUNTS = (None,) * (1 + len(_COUNTS))
_PERCENT = frozenset({"accuracy"})


@dataclass
class MethodResult:
    """Result of one method.

    Args:
        hyperparameters: The chosen ones; None if all failed.
        tried: Scores on the validation rows, with the first seed.
        scores: Scores on the test rows, by seed.
        tasks: All numbers of evaluation tasks, by seed, with how many items each is of.
        failures: One message for each failed trial.
    """

    method: Method
    hyperparameters: Hyperparameters | None = None
    tried: dict[Hyperparameters, Scores] = field(default_factory=dict)
    scores: dict[int, Scores] = field(default_factory=dict)
    tasks: dict[int, list[TaskScore]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        scores: By metric, on the test rows and of evaluation tasks, one value a seed. A metric that was not run with
            each seed is absent; empty if the method failed.
        tasks: The numbers of evaluation tasks that the row is of, of every seed.
    """

    name: str
    kind: MethodKind
    hyperparameters: str
    scores: dict[str, list[float]]
    tasks: list[TaskScore] = field(default_factory=list)

    def mean(self, metric: str) -> float | None:
        """The mean over the seeds. None without scores."""
        return statistics.fmean(self.scores[metric]) if self.scores.get(metric) else None

    def spread(self, metric: str) -> float | None:
        """The sample standard deviation over the seeds. None with fewer than two."""
        values = self.scores.get(metric, [])
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Results:
    """Results of all methods, in the order of the table. notes: what makes the scores doubtful."""

    name: str
    ranked_by: Criterion
    seeds: list[int]
    methods: list[MethodResult]
    notes: list[str] = field(default_factory=list)

    @property
    def metrics(self) -> list[str]:
        """The names of the scores on rows, and the criterion, which is the first."""
        names = {metric for result in self.methods for scores in result.scores.values() for metric in scores}
        names |= self.task_metrics.keys() & {self.criterion}
        return sorted(names, key=lambda metric: (metric != self.criterion, metric))

    @cached_property
    def task_metrics(self) -> dict[str, list[TaskScore]]:
        """The numbers of evaluation tasks by key, in the order of the suite."""
        found: dict[str, list[TaskScore]] = {}
        for result in self.methods:
            for scores in result.tasks.values():
                for score in scores:
                    found.setdefault(score.key, []).append(score)
        return found

    @property
    def criterion(self) -> str:
        """The score by which rows are compared."""
        return self.ranked_by.metric

    def is_share(self, metric: str) -> bool:
        """Whether a metric is shown in per cent."""
        found = self.task_metrics.get(metric)
        return all(score.is_share for score in found) if found else metric in _PERCENT

    def rows(self) -> list[Row]:
        """The table's rows: every method, and after the clients alone their mean."""
        rows: list[Row] = []
        alone: list[Row] = []
        for result in self.methods:
            row = self._row(result)
            if alone and result.method.kind is not MethodKind.ALONE:
                rows.append(self._mean_of(alone))
                alone = []
            rows.append(row)
            if result.method.kind is MethodKind.ALONE:
                alone.append(row)
        return rows

    def formatted(self, value: float, metric: str | None = None) -> str:
        """A score as the table shows it; shares in percent."""
        return f"{100 * value:.1f}" if self.is_share(metric or self.criterion) else f"{value:.3f}"

    def write_csv(self, path: Path) -> None:
        """Write every score, one a line. Raises OSError."""
        with path.open("w", encoding="utf-8", newline="") as file:
            write_csv(file, _COLUMNS, (dict(zip(_COLUMNS, line, strict=True)) for line in self._lines()))

    def _lines(self) -> Iterator[Sequence[Any]]:
        for result in self.methods:
            scored = [(tried, self.seeds[0], "validation", scores) for tried, scores in result.tried.items()]
            chosen = result.hyperparameters
            assert chosen is not None or not result.scores
            scored += [(chosen, seed, "test", scores) for seed, scores in result.scores.items() if chosen]
            for hyperparameters, seed, split, scores in scored:
                for metric, value in scores.items():
                    yield *_first_columns(result.method, hyperparameters), seed, split, metric, value, *_NO_COUNTS
            for seed, tasks in result.tasks.items():
                for score in tasks:
                    assert chosen is not None
                    counts = (score.n, score.n_asked, score.n_published) if score.n_asked else (None, None, None)
                    found = seed, "evaluation", score.metric, score.value, score.task, *counts, score.not_run
                    yield *_first_columns(result.method, chosen), *found

    def _row(self, result: MethodResult) -> Row:
        by_seed = {seed: scores | values_of(result.tasks.get(seed, ())) for seed, scores in result.scores.items()}
        if len(by_seed) < len(self.seeds):
            by_seed = {}  # a mean over fewer would mislead
        first = next(iter(by_seed.values()), {})
        common = [metric for metric in first if all(metric in scores for scores in by_seed.values())]
        scores = {metric: [by_seed[seed][metric] for seed in self.seeds] for metric in common}
        trained = result.hyperparameters is not None and result.method.kind is not MethodKind.BASE
        shown = str(result.hyperparameters) if trained else ""
        tasks = [score for seed in by_seed for score in result.tasks.get(seed, [])]
        return Row(result.method.name, result.method.kind, shown, scores, tasks)

    def _mean_of(self, alone: Sequence[Row]) -> Row:
        """The clients alone, averaged seed by seed."""
        scores = {}
        for metric in alone[0].scores:
            if all(metric in row.scores for row in alone):
                by_seed = zip(*(row.scores[metric] for row in alone), strict=True)
                scores[metric] = [statistics.fmean(values) for values in by_seed]
        tasks = [score for row in alone for score in row.tasks]
        return Row("mean of clients alone", MethodKind.ALONE_MEAN, "", scores, tasks)


def _first_columns(method: Method, hyperparameters: Hyperparameters) -> tuple[str, ...]:
    params = " ".join(f"{name}={value:g}" for name, value in hyperparameters.params)
    return method.name, method.kind, f"{hyperparameters.learning_rate:g}", params
