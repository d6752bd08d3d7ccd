"""Numbers of evaluation tasks, as a comparison has them: by task and metric, of one trained model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fedloom.evaluation.results import Results
from fedloom.evaluation.statistics.averages import AverageValue
from fedloom.evaluation.statistics.numbers import Number


@dataclass(frozen=True)
class TaskScore:
    """One metric of one model in one task, or a mean over tasks.

    Args:
        task: its name; empty for a mean over tasks.
        metric: its name.
        value: over the items that count; None if there is none.
        n: items that count; 0 for a mean over tasks, as are the next two.
        n_asked: items that were asked.
        n_published: items of the published set.
        is_share: whether it is shown in per cent.
        lower_is_better: whether a smaller value is the better one.
        not_run: why there is no value; empty if there is one.
        is_void: whether that is no fault of the task or the model, such as a failed sandbox: it can be asked again.
    """

    task: str
    metric: str
    value: float | None
    n: int
    n_asked: int
    n_published: int
    is_share: bool
    lower_is_better: bool
    not_run: str = ""
    is_void: bool = False

    @property
    def key(self) -> str:
        """Its name among the scores of a model."""
        return key_of(self.task, self.metric)


def key_of(task: str, metric: str) -> str:
    """TASK.METRIC, as a comparison file names it; the name alone for a mean over tasks."""
    return f"{task}.{metric}" if task else metric


def task_scores(results: Results) -> Iterator[TaskScore]:
    """The numbers of an evaluation of one model: task by task, then the means over tasks."""
    for task in results.tasks:
        for model in task.models:
            yield from (_of_task(number, is_void=task.is_void) for number in model.numbers)
    for averages in results.averages.values():
        yield from map(_mean, averages)


def values_of(scores: Iterable[TaskScore]) -> dict[str, float]:
    """The values that are there, by key."""
    return {score.key: score.value for score in scores if score.value is not None}


def _of_task(number: Number, *, is_void: bool) -> TaskScore:
    return TaskScore(
        task=number.task,
        metric=number.metric.name,
        value=number.value,
        n=number.n,
        n_asked=number.n_asked,
        n_published=number.n_published,
        is_share=number.metric.is_share,
        lower_is_better=number.metric.best == -1,
        not_run=number.not_run,
        is_void=is_void,
    )


def _mean(mean: AverageValue) -> TaskScore:
    name, metric = mean.average.name, mean.average.metric
    return TaskScore("", name, mean.value, 0, 0, 0, metric.is_share, metric.best == -1, mean.not_run)
