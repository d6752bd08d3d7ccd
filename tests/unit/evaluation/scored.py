"""Outcomes of items, and a task that has nothing but metrics."""

from collections.abc import Sequence
from pathlib import Path

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.tasks.base import Item, Items, Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.label_metrics import label_metric

LABELS = ("negative", "neutral", "positive")
ACC = TaskMetric("acc", "accuracy", "share right")
MACRO, MICRO, WEIGHTED = (
    TaskMetric(f"f1_{name}", name, "F1", kind="labels", labels=LABELS) for name in ("macro", "micro", "weighted")
)
LENGTHS = TaskMetric("lengths", "lengths", "characters of predictions per character of references", kind="corpus")


class Scored(Task):
    name = "scored"
    title = "Scored"
    files = ()

    def __init__(self, *metrics: TaskMetric) -> None:
        self.metrics = metrics

    def load(self, data: Path) -> Items:
        raise NotImplementedError

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        raise NotImplementedError

    def compute(self, metric: TaskMetric, outcomes: Sequence[Outcome]) -> float:
        if metric.kind == "labels":
            return label_metric(metric.name, [each.label for each in outcomes if each.label], metric.labels)
        texts = [each.texts for each in outcomes if each.texts]
        return sum(len(prediction) for prediction, _ in texts) / sum(len(reference) for _, reference in texts)


def right_or_wrong(values: Sequence[float], groups: Sequence[str] = ()) -> list[Outcome]:
    groups = groups or [""] * len(values)
    pairs = zip(values, groups, strict=True)
    return [Outcome(str(place), group, {"acc": float(value)}) for place, (value, group) in enumerate(pairs)]


def labelled(pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
    return [Outcome(str(place), "", label=pair) for place, pair in enumerate(pairs)]
