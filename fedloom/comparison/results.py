"""What came out of a comparison: means and spreads over the seeds, the table, the CSV file."""

import csv
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fedloom.comparison.entrants import EntrantKind, Hyperparameters, Method
from fedloom.comparison.scoring import CRITERION, Scores, is_better

_PERCENT = frozenset({"accuracy"})


@dataclass
class Outcome:
    """What an entrant came to. rates: those that were chosen, None where every one failed. tried: the scores on the
    validation rows, with the first seed. scores: those on the test rows, by seed."""

    entrant: Method
    rates: Hyperparameters | None = None
    tried: dict[Hyperparameters, Scores] = field(default_factory=dict)
    scores: dict[int, Scores] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A row of the table. scores: by metric, a value for each seed; empty where the entrant failed."""

    name: str
    kind: EntrantKind
    rates: str
    scores: dict[str, list[float]]

    def mean(self, metric: str) -> float | None:
        """The mean over the seeds; None where there are none."""
        return statistics.fmean(self.scores[metric]) if self.scores.get(metric) else None

    def spread(self, metric: str) -> float | None:
        """The sample standard deviation over the seeds; None with fewer than two."""
        found = self.scores.get(metric, [])
        return statistics.stdev(found) if len(found) > 1 else None


@dataclass(frozen=True)
class Results:
    """All outcomes, in the order of the table."""

    name: str
    measure: str
    seeds: list[int]
    outcomes: list[Outcome]

    @property
    def metrics(self) -> list[str]:
        """The names of the scores, the criterion first."""
        found = {metric for outcome in self.outcomes for scores in outcome.scores.values() for metric in scores}
        return sorted(found, key=lambda metric: (metric != self.criterion, metric))

    @property
    def criterion(self) -> str:
        """The score that rates are chosen by, and rows compared by."""
        return CRITERION[self.measure]

    def rows(self) -> list[Row]:
        """The table's rows: every entrant, and after the clients alone their mean."""
        found: list[Row] = []
        alone: list[Row] = []
        for outcome in self.outcomes:
            row = self._row(outcome)
            if alone and outcome.entrant.kind is not EntrantKind.ALONE:
                found.append(self._mean_of(alone))
                alone = []
            found.append(row)
            if outcome.entrant.kind is EntrantKind.ALONE:
                alone.append(row)
        return found

    def best(self) -> Row | None:
        """The best algorithm by the mean of the criterion."""
        best: Row | None = None
        for row in self.rows():
            score = row.mean(self.criterion)
            if row.kind is not EntrantKind.ALGORITHM or score is None:
                continue
            than = best.mean(self.criterion) if best is not None else None
            if than is None or is_better(self.measure, score, than):
                best = row
        return best

    def finding(self) -> str:
        """Whether every algorithm beats every client alone, in a sentence; empty without baselines."""
        rows = self.rows()
        alone = [(score, row) for row in rows if row.kind is EntrantKind.ALONE if (score := row.mean(self.criterion))]
        if not alone:
            return ""
        lower = self.criterion == "loss"
        limit, strongest = (min if lower else max)(alone, key=lambda pair: pair[0])
        algorithms = [row for row in rows if row.kind is EntrantKind.ALGORITHM]
        above = [
            row for row in algorithms if (found := row.mean(self.criterion)) and is_better(self.measure, found, limit)
        ]
        short = [row.name for row in algorithms if row not in above]
        best = f"{strongest.name}, {self.shown(limit)}"
        say = f"{len(above)} of {len(algorithms)} algorithms beat the best client alone ({best})"
        return say + (f"; not {', '.join(short)}" if short else "")

    def table(self) -> Table:
        """The table for a terminal: mean ± standard deviation over the seeds, the best algorithm marked."""
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("")
        table.add_column("RATES")
        for metric in self.metrics:
            table.add_column(metric.upper().replace("_", "-"), justify="right", no_wrap=True)
        best = self.best()
        for row in self.rows():
            is_best = best is not None and row.name == best.name
            cells = [self._cell(row, metric) for metric in self.metrics]
            table.add_row(
                Text(f"{row.name} ★" if is_best else row.name), row.rates, *cells, style="bold green" if is_best else ""
            )
        return table

    def _cell(self, row: Row, metric: str) -> str:
        mean, spread = row.mean(metric), row.spread(metric)
        if mean is None:
            return "failed"
        return self.shown(mean, metric) + (f" ± {self.shown(spread, metric)}" if spread is not None else "")

    def shown(self, value: float, metric: str | None = None) -> str:
        """A score as the table shows it; accuracy in percent."""
        return f"{100 * value:.1f}" if (metric or self.criterion) in _PERCENT else f"{value:.3f}"

    def write_csv(self, path: Path) -> None:
        """Write every score that was taken, a line each. Raises OSError."""
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(["entrant", "kind", "learning_rate", "params", "seed", "split", "metric", "value"])
            for line in self._lines():
                out.writerow(line)

    def _lines(self) -> Iterator[Sequence[Any]]:
        for outcome in self.outcomes:
            taken = [(rates, self.seeds[0], "validation", scores) for rates, scores in outcome.tried.items()]
            assert outcome.rates is not None or not outcome.scores
            taken += [(outcome.rates, seed, "test", scores) for seed, scores in outcome.scores.items() if outcome.rates]
            for rates, seed, split, scores in taken:
                params = " ".join(f"{name}={value:g}" for name, value in rates.params)
                for metric, value in scores.items():
                    name, kind = outcome.entrant.name, outcome.entrant.kind
                    yield name, kind, f"{rates.learning_rate:g}", params, seed, split, metric, repr(value)

    def as_json(self) -> dict[str, Any]:
        """The rows, for scripts."""
        rows = [{"name": row.name, "kind": row.kind, "rates": row.rates, "scores": row.scores} for row in self.rows()]
        failures = [failure for outcome in self.outcomes for failure in outcome.failures]
        return {"name": self.name, "seeds": self.seeds, "rows": rows, "failures": failures, "finding": self.finding()}

    def _row(self, outcome: Outcome) -> Row:
        whole = outcome.scores if len(outcome.scores) == len(self.seeds) else {}  # a mean over fewer would mislead
        scores = {metric: [whole[seed][metric] for seed in self.seeds] for metric in self.metrics} if whole else {}
        trained = outcome.rates is not None and outcome.entrant.kind is not EntrantKind.BASE
        return Row(outcome.entrant.name, outcome.entrant.kind, str(outcome.rates) if trained else "", scores)

    def _mean_of(self, alone: Sequence[Row]) -> Row:
        """The clients alone, averaged seed by seed."""
        scores = {}
        if all(row.scores for row in alone):
            for metric in self.metrics:
                by_seed = zip(*(row.scores[metric] for row in alone), strict=True)
                scores[metric] = [statistics.fmean(values) for values in by_seed]
        return Row("mean of clients alone", EntrantKind.ALONE_MEAN, "", scores)
