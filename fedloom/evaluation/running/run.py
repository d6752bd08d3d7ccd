"""Runs tasks over models, in a folder that a killed run goes on in."""

import importlib.metadata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fedloom.evaluation.asking.models import Model, ModelFacts
from fedloom.evaluation.asking.replies import StoredModel, stored
from fedloom.evaluation.judging.open_judge import OpenJudge
from fedloom.evaluation.report import write_report
from fedloom.evaluation.results import Results, TaskResult
from fedloom.evaluation.running.folder import alone_in, delete_other_items
from fedloom.evaluation.running.one_task import run_task, without_numbers
from fedloom.evaluation.running.plan import OnProgress, Plan, Progress
from fedloom.evaluation.running.ready import ReadyTask, prepare
from fedloom.evaluation.statistics.averages import AverageValue, average_of
from fedloom.evaluation.statistics.numbers import Number

_LIBRARIES = ("fedloom", "torch", "transformers", "peft", "lm-eval", "scikit-learn", "sacrebleu", "numpy")


def run(plan: Plan, models: Sequence[Model], folder: Path, on_progress: OnProgress = lambda _: None) -> Results:
    """Run a plan over models that are there. The first one is what the others are compared with.

    Raises EvaluationError if another run uses the folder, OSError, and what the models raise.

    Args:
        plan: what is evaluated.
        models: on the same base model.
        folder: of the replies and results. The same plan in the same folder goes on where it stopped.
        on_progress: called as often as something changes.
    """
    with alone_in(folder):
        return run_ready(plan, prepare(plan, len(models)), stored(models, folder), folder, on_progress)


def run_ready(
    plan: Plan, ready: Sequence[ReadyTask], models: Sequence[StoredModel], folder: Path, on_progress: OnProgress
) -> Results:
    """As ``run``, of tasks that are ready, in a folder that is locked."""
    running = _Running(plan, ready, models, folder, on_progress)
    for each in ready:
        if each.can_run:
            running.run_next(each)
    return running.finish()


def before_run(plan: Plan, ready: Sequence[ReadyTask], models: Sequence[ModelFacts]) -> Results:
    """What is known before anything is asked: which tasks are not run, and why. models: those that are known by now."""
    names = [model.name for model in models]
    return Results(
        made_at=datetime.now(UTC),
        suite=plan.suite,
        title=plan.title,
        seed=plan.seed,
        limit=plan.limit,
        versions=_versions(),
        models=models,
        tasks=[without_numbers(each, names, each.facts.not_run) for each in ready if not each.can_run],
    )


class _Running:
    """A run: its results so far, on the disk as well."""

    def __init__(
        self,
        plan: Plan,
        ready: Sequence[ReadyTask],
        models: Sequence[StoredModel],
        folder: Path,
        on_progress: OnProgress,
    ) -> None:
        self._plan, self._ready, self._folder, self._on_progress = plan, ready, folder, on_progress
        self._models = models
        self._judge = OpenJudge(plan.judge, folder) if plan.judge is not None else None
        self._results = before_run(plan, ready, [model.facts for model in models])
        self._found = {task.name: task for task in self._results.tasks}
        self._items_done = 0
        self._items_total = len(models) * sum(len(each.items) for each in ready)
        self._write()
        self._tell("", "", 0, 0, 0.0)

    def run_next(self, ready: ReadyTask) -> None:
        """Run one task."""
        name, n = ready.task.name, len(ready.items)

        def tell(place: int, model: str, done: int, total: int) -> None:
            self._tell(name, model, done, total, n * (place + (done / total if total else 0.0)))

        self._add(run_task(ready, self._models, self._plan.seed, self._folder, tell, self._judge))
        self._items_done += n * len(self._models)
        self._write()
        self._tell(name, "", 0, 0, 0.0)

    def finish(self) -> Results:
        """Add the means over tasks."""
        averages: dict[str, Sequence[AverageValue]] = {
            model.name: self._averages(model.name) for model in self._results.models
        }
        self._results = replace(self._results, averages=averages, is_complete=True)
        tasks = [task.name for task in self._results.tasks if any(model.prompts_sha256 for model in task.models)]
        delete_other_items(self._folder, [(task, model) for task in tasks for model in averages])
        self._write()
        return self._results

    def _add(self, found: TaskResult) -> None:
        self._found[found.name] = found
        tasks = [self._found[each.task.name] for each in self._ready if each.task.name in self._found]
        self._results = replace(self._results, tasks=tasks)

    def _write(self) -> None:
        """Write all files of results, so that none is of another run than the others."""
        self._results = replace(self._results, made_at=datetime.now(UTC))
        write_report(self._results, self._folder)

    def _tell(self, task: str, model: str, done: int, total: int, items: float) -> None:
        said = Progress(task, model, done, total, self._results, self._items_done + items, self._items_total)
        self._on_progress(said)

    def _averages(self, model: str) -> list[AverageValue]:
        titles = {each.task.name: each.task.title for each in self._ready}
        own = [each for task in self._results.tasks for each in task.models if each.model == model]
        numbers = [number for each in own for number in each.numbers]
        return [average_of(each, _of_metric(numbers, each.metric.name), titles) for each in self._plan.averages]


def _of_metric(numbers: Sequence[Number], metric: str) -> dict[str, Number]:
    return {number.task: number for number in numbers if number.metric.name == metric}


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
