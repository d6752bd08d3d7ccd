"""Results of a comparison: the scores, with their means and spreads over the seeds."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fedloom.comparison.criterion import Criterion
from fedloom.comparison.parts import EVALUATION, TEST
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method, MethodKind
from fedloom.comparison.running.trial_scores import Training, TrialScores
from fedloom.comparison.scoring import Scores
from fedloom.comparison.tasks.scores import TaskScore, values_of

_PERCENT = frozenset({"accuracy"})


@dataclass
class Tried:
    """One choice of hyperparameters, with the first seed.

    Args:
        scores: On the validation rows.
        tasks: Numbers of the tasks that hyperparameters are chosen by.
        failure: Why it cannot be chosen; empty if it can.
    """

    scores: Scores = field(default_factory=dict)
    tasks: Sequence[TaskScore] = ()
    failure: str = ""

    @property
    def values(self) -> Scores:
        """All values by metric."""
        return self.scores | values_of(self.tasks)


@dataclass
class MethodResult:
    """Result of one method.

    Args:
        hyperparameters: The chosen ones; None if all failed.
        tried: All that were tried, in the order of the grid. A single one was not scored to be chosen.
        scores: Scores on the test rows, by seed.
        tasks: All numbers of evaluation tasks, by seed, with how many items each is of.
        training: How it was trained, by seed.
        failures: One message for each failed trial.
    """

    method: Method
    hyperparameters: Hyperparameters | None = None
    tried: dict[Hyperparameters, Tried] = field(default_factory=dict)
    scores: dict[int, Scores] = field(default_factory=dict)
    tasks: dict[int, list[TaskScore]] = field(default_factory=dict)
    training: dict[int, Training] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, seed: int, scores: TrialScores) -> None:
        """Take the scores of the chosen hyperparameters with a seed."""
        self.scores[seed] = scores.rows.get(TEST, {})
        self.tasks[seed] = scores.tasks[EVALUATION].scores if EVALUATION in scores.tasks else []
        if scores.training is not None:
            self.training[seed] = scores.training


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        hyperparameters: The chosen ones; None if there are none.
        scores: By metric, on the test rows and of evaluation tasks, one value a seed. A metric that was not run with
            each seed is absent; empty if the method failed.
        tasks: The numbers of evaluation tasks that the row is of, of every seed.
        training: How it was trained, by seed.
    """

    name: str
    kind: MethodKind
    hyperparameters: Hyperparameters | None
    scores: dict[str, list[float]]
    tasks: list[TaskScore] = field(default_factory=list)
    training: dict[int, Training] = field(default_factory=dict)

    def mean(self, metric: str) -> float | None:
        """The mean over the seeds. None without scores."""
        return statistics.fmean(self.scores[metric]) if self.scores.get(metric) else None

    def spread(self, metric: str) -> float | None:
        """The sample standard deviation over the seeds. None with fewer than two."""
        values = self.scores.get(metric, [])
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Results:
    """Results of all methods.

    Args:
        ranked_by: what the star is given for.
        chosen_by: what hyperparameters were chosen by; None if no method had several.
        is_ordered: whether the rows are ordered by ``ranked_by``, and not by their kind.
        notes: what makes the scores doubtful.
        remarks: how the methods were trained unequally.
    """

    name: str
    ranked_by: Criterion
    seeds: list[int]
    methods: list[MethodResult]
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    chosen_by: Criterion | None = None
    is_ordered: bool = False

    @property
    def metrics(self) -> list[str]:
        """The names of the scores on rows, and the criterion, which is the first."""
        names = {metric for result in self.methods for scores in result.scores.values() for metric in scores}
        names |= self.task_metrics.keys() & {self.criterion}
        return sorted(names, key=lambda metric: (metric != self.criterion, metric))

    @cached_property
    def task_metrics(self) -> dict[str, list[TaskScore]]:
        """The numbers of evaluation tasks by key, in the order of the suite."""
        return _by_key(score for result in self.methods for scores in result.tasks.values() for score in scores)

    @property
    def n_tried(self) -> int:
        """How many choices of hyperparameters were compared with others of their method."""
        return sum(len(result.tried) for result in self.methods if len(result.tried) > 1)

    @property
    def criterion(self) -> str:
        """The score by which rows are compared."""
        return self.ranked_by.metric

    def is_share(self, metric: str) -> bool:
        """Whether a metric is shown in per cent."""
        found = self.task_metrics.get(metric) or self._tried_metrics.get(metric)
        return all(score.is_share for score in found) if found else metric in _PERCENT

    def rows(self) -> list[Row]:
        """The table's rows: every method, and after the clients alone their mean; or the best one first."""
        rows = [self._row(result) for result in self.methods]
        alone = [place for place, row in enumerate(rows) if row.kind is MethodKind.ALONE]
        if alone:
            rows.insert(alone[-1] + 1, self._mean_of([rows[place] for place in alone]))
        return sorted(rows, key=self._order) if self.is_ordered else rows

    def _order(self, row: Row) -> tuple[bool, float]:
        """Best first, and rows without a value last. Of equal ones the order stays."""
        mean = row.mean(self.criterion)
        if mean is None:
            return True, 0.0
        return False, mean if self.ranked_by.lower_is_better else -mean

    @cached_property
    def _tried_metrics(self) -> dict[str, list[TaskScore]]:
        return _by_key(score for result in self.methods for tried in result.tried.values() for score in tried.tasks)

    def formatted(self, value: float, metric: str | None = None) -> str:
        """A score as the table shows it; shares in percent."""
        return f"{100 * value:.1f}" if self.is_share(metric or self.criterion) else f"{value:.3f}"

    def _row(self, result: MethodResult) -> Row:
        by_seed = {seed: scores | values_of(result.tasks.get(seed, ())) for seed, scores in result.scores.items()}
        if len(by_seed) < len(self.seeds):
            by_seed = {}  # a mean over fewer would mislead
        first = next(iter(by_seed.values()), {})
        common = [metric for metric in first if all(metric in scores for scores in by_seed.values())]
        scores = {metric: [by_seed[seed][metric] for seed in self.seeds] for metric in common}
        chosen = result.hyperparameters if result.method.kind is not MethodKind.BASE else None
        tasks = [score for seed in by_seed for score in result.tasks.get(seed, [])]
        return Row(result.method.name, result.method.kind, chosen, scores, tasks, result.training)

    def _mean_of(self, alone: Sequence[Row]) -> Row:
        """The clients alone, averaged seed by seed."""
        scores = {}
        for metric in alone[0].scores:
            if all(metric in row.scores for row in alone):
                by_seed = zip(*(row.scores[metric] for row in alone), strict=True)
                scores[metric] = [statistics.fmean(values) for values in by_seed]
        tasks = [score for row in alone for score in row.tasks]
        return Row("mean of clients alone", MethodKind.ALONE_MEAN, None, scores, tasks)


def _by_key(scores: Iterable[TaskScore]) -> dict[str, list[TaskScore]]:
    found: dict[str, list[TaskScore]] = {}
    for score in scores:
        found.setdefault(score.key, []).append(score)
    return found
