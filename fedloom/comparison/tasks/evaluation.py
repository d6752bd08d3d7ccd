"""Evaluation tasks of a comparison: checked before anything is trained, then asked of each trained model."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent.data.source import DataSource
from fedloom.comparison.tasks.scores import TaskScore, task_scores
from fedloom.comparison.tasks.section import TasksSection
from fedloom.errors import ComparisonError, EvaluationError, HarnessMissing
from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.replies import stored
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.running.folder import alone_in
from fedloom.evaluation.running.ready import ReadyTask, check_some_can_run, prepare
from fedloom.evaluation.running.run import run_ready
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.tasks.base import Task
from shared.digest import sha256_file, sha256_of_parts


class TaskEvaluation:
    """The tasks of a comparison, with the items that every model gets."""

    def __init__(self, section: TasksSection, training: DataSource, *, run_untrusted_code: bool = False) -> None:
        """Read the data of all tasks.

        Raises ComparisonError if no task can run, or one runs code and there is no sandbox; EvaluationError,
        HarnessMissing, CampaignFileError of a suite's file, and OSError.

        Args:
            section: of the comparison file, with absolute paths.
            training: the owners' data, in which items are looked for.
            run_untrusted_code: run code that a model wrote without a sandbox.
        """
        self._plan = planned(
            section.suite,
            section.tasks,
            data=section.data,
            limit=section.limit,
            seed=section.seed,
            untrusted=run_untrusted_code,
            training=[training],
        )
        _check(self._plan.tasks)
        self._ready = prepare(self._plan)
        try:
            check_some_can_run(self._ready)
        except EvaluationError as error:
            raise ComparisonError(f"evaluation: {error}") from error
        averages = [asdict(each) for each in self._plan.averages]
        self.facts: dict[str, Any] = {
            "seed": section.seed,
            "averages": averages,
            "tasks": [_facts(each) for each in self._ready],
        }
        """What makes two evaluations the same: items, data, metrics, and the code of tasks of one's own."""

    @property
    def not_run(self) -> list[str]:
        """The tasks that cannot run, and why."""
        return [f"{each.facts.name}: not run: {each.facts.not_run}" for each in self._ready if not each.can_run]

    @property
    def overlaps(self) -> list[str]:
        """How many items are in the training data, by task; nothing of tasks of which none is."""
        return [each.facts.overlap for each in self._ready if each.facts.overlap]

    def scores(self, model: Model, folder: Path, on_progress: Callable[[], None]) -> list[TaskScore]:
        """Ask a model. The same folder goes on where a stopped evaluation was.

        Raises what the model raises, HarnessMissing, EvaluationError and OSError.

        Args:
            model: what is asked.
            folder: of its replies, and of its own report.
            on_progress: called as often as something changes; what it raises ends the evaluation.
        """
        # models are asked side by side, and a task may remember what it was asked last
        own = [replace(each, task=copy(each.task)) for each in self._ready]
        with alone_in(folder):
            results = run_ready(self._plan, own, stored([model], folder), folder, lambda _: on_progress())
        return list(task_scores(results))


def _check(tasks: Sequence[Task]) -> None:
    """Raise ComparisonError if programs cannot run here, whether or not their data is there."""
    reasons: dict[str, NoIsolation] = {}
    for task in tasks:
        try:
            with suppress(HarnessMissing):  # which matters only to tasks with data: preparing these raises it
                task.check()
        except NoIsolation as error:
            reasons[task.name] = error
    if reasons:
        first = next(iter(reasons.values()))
        raise ComparisonError(f"evaluation, {', '.join(reasons)}: {first}") from first


def _facts(ready: ReadyTask) -> dict[str, Any]:
    """What makes a task the same."""
    task = ready.task
    code = sha256_file(task.defined_in) if task.defined_in is not None else None
    facts: dict[str, Any] = {"name": task.name, "metrics": [asdict(metric) for metric in task.metrics], "code": code}
    if ready.can_run:
        facts |= {"data": ready.facts.digests, "items": sha256_of_parts(ready.facts.items)}
    return facts
