"""Results of a comparison: the scores, their means and spreads over the seeds, the CSV file."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedloom.comparison.methods import Hyperparameters, Method, MethodKind
from fedloom.comparison.scoring import CRITERION, Scores
from fedloom.csv_table import write_csv

_COLUMNS = ("method", "kind", "learning_rate", "params", "seed", "split", "metric", "value")
_PERCENT = frozenset({"accuracy"})


@dataclass
class MethodResult:
    """Result of one method.

    Args:
        hyperparameters: The chosen ones; None if all failed.
        tried: Scores on the validation rows, with the first seed.
        scores: Scores on the test rows, by seed.
        failures: One message for each failed trial.
    """

    method: Method
    hyperparameters: Hyperparameters | None = None
    tried: dict[Hyperparameters, Scores] = field(default_factory=dict)
    scores: dict[int, Scores] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A row of the table. scores: by metric, one value a seed; empty if the method failed."""

    name: str
    kind: MethodKind
    hyperparameters: str
    scores: dict[str, list[float]]

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
    measure: str
    seeds: list[int]
    methods: list[MethodResult]
    notes: list[str] = field(default_factory=list)

    @property
    def metrics(self) -> list[str]:
        """The names of the scores, the criterion first."""
        names = {metric for result in self.methods for scores in result.scores.values() for metric in scores}
        return sorted(names, key=lambda metric: (metric != self.criterion, metric))

    @property
    def criterion(self) -> str:
        """The score by which hyperparameters are chosen and rows compared."""
        return CRITERION[self.measure]

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller value of the criterion is the better one."""
        return self.criterion == "loss"

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
        """A score as the table shows it; accuracy in percent."""
        return f"{100 * value:.1f}" if (metric or self.criterion) in _PERCENT else f"{value:.3f}"

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
                learning_rate = f"{hyperparameters.learning_rate:g}"
                params = " ".join(f"{name}={value:g}" for name, value in hyperparameters.params)
                for metric, value in scores.items():
                    name, kind = result.method.name, result.method.kind
                    yield name, kind, learning_rate, params, seed, split, metric, value

    def _row(self, result: MethodResult) -> Row:
        by_seed = result.scores if len(result.scores) == len(self.seeds) else {}  # a mean over fewer would mislead
        scores = {metric: [by_seed[seed][metric] for seed in self.seeds] for metric in self.metrics} if by_seed else {}
        trained = result.hyperparameters is not None and result.method.kind is not MethodKind.BASE
        return Row(result.method.name, result.method.kind, str(result.hyperparameters) if trained else "", scores)

    def _mean_of(self, alone: Sequence[Row]) -> Row:
        """The clients alone, averaged seed by seed."""
        scores = {}
        if all(row.scores for row in alone):
            for metric in self.metrics:
                by_seed = zip(*(row.scores[metric] for row in alone), strict=True)
                scores[metric] = [statistics.fmean(values) for values in by_seed]
        return Row("mean of clients alone", MethodKind.ALONE_MEAN, "", scores)
