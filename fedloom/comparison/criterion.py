"""The metrics that hyperparameters are chosen by, and that rows of the table are ranked by."""

from dataclasses import dataclass
from typing import Literal

Measure = Literal["loss", "exact", "choice"]
METRICS_OF: dict[Measure, tuple[str, ...]] = {
    "loss": ("loss",),
    "exact": ("accuracy",),
    "choice": ("accuracy", "macro_f1"),
}
"""The metrics of each measure on rows; the first is the one that it stands for."""


@dataclass(frozen=True)
class Criterion:
    """One metric.

    Args:
        metric: its name among the scores.
        lower_is_better: whether a smaller value is the better one.
        measured_on: what it is measured on, for people.
        tasks: the evaluation tasks that it needs; empty for a measure on rows.
    """

    metric: str
    lower_is_better: bool = False
    measured_on: str = "the test rows"
    tasks: tuple[str, ...] = ()

    def is_better(self, score: float, than: float) -> bool:
        """Whether a value is better than another."""
        return score < than if self.lower_is_better else score > than


def criterion_on_rows(metric: str, rows: str = "the test rows") -> Criterion:
    """The criterion of a metric on rows. rows: which ones, for people."""
    return Criterion(metric, lower_is_better=metric == "loss", measured_on=rows)


def criterion_of(measure: Measure) -> Criterion:
    """The criterion of a measure on the test rows."""
    return criterion_on_rows(METRICS_OF[measure][0])


def is_on_rows(metric: str) -> bool:
    """Whether a metric is measured on rows, and not by evaluation tasks."""
    return any(metric in metrics for metrics in METRICS_OF.values())
