"""The metric that hyperparameters are chosen by, or that rows of the table are ranked by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """One metric.

    Args:
        metric: its name among the scores.
        lower_is_better: whether a smaller value is the better one.
        measured_on: what it is measured on, for people.
    """

    metric: str
    lower_is_better: bool = False
    measured_on: str = "the test rows"

    def is_better(self, score: float, than: float) -> bool:
        """Whether a value is better than another."""
        return score < than if self.lower_is_better else score > than


_OF = {"loss": Criterion("loss", lower_is_better=True), "exact": Criterion("accuracy"), "choice": Criterion("accuracy")}


def criterion_of(measure: str) -> Criterion:
    """The criterion of a measure on rows."""
    return _OF[measure]
