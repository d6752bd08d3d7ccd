"""Evaluation tasks of a comparison: checked before anything is trained, then asked of each trained model."""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fedloom.comparison.tasks.scores import TaskScore, task_scores
from fedloom.comparison.tasks.section import TasksSection
from fedloom.errors import ComparisonError
from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.data.overlap import overlap
from fedloom.evaluation.data.sampling import draw
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.running.run import run
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.sandbox.sandbox import Sandbox
from fedloom.evaluation.tasks.base import BadData, DataMissing, Item, Task
from shared.digest import sha256_file, sha256_of_parts


class TaskEvaluation:
    """The tasks of a comparison, with the items that every model gets."""

    def __init__(self, section: TasksSection, *, run_untrusted_code: bool = False) -> None:
        """Read the data of all tasks.

        Raises ComparisonError if no task can run, or one runs code and there is no sandbox; EvaluationError,
        CampaignFileError of a suite's file, and OSError.

        Args:
            section: of the comparison file, with absolute paths.
            run_untrusted_code: run code that a model wrote without a sandbox.
        """
        self._plan = planned(
            section.suite,
            section.tasks,
            data=section.data,
            limit=section.limit,
            seed=section.seed,
            untrusted=run_untrusted_code,
        )
        self._items: dict[str, Sequence[Item]] = {}
        self.not_run: dict[str, str] = {}
        """Why a task cannot run, by its name."""
        self._facts = {"seed": section.seed, "averages": [asdict(each) for each in self._plan.averages]}
        self._check(run_untrusted_code=run_untrusted_code)

    @property
    def facts(self) -> dict[str, Any]:
        """What makes two evaluations the same: items, data, metrics, and the code of tasks of one's own."""
        return self._facts

    def notes(self, training: Sequence[str]) -> list[str]:
        """What a reader must know: tasks that are not run, and items that are in the texts of training rows."""
        notes = [f"{task}: not run: {reason}" for task, reason in self.not_run.items()]
        found = (overlap(items, training).warning(task) for task, items in self._items.items())
        return notes + [warning for warning in found if warning]

    def scores(self, model: Model, folder: Path, on_progress: Callable[[], None]) -> list[TaskScore]:
        """Ask a model. The same folder goes on where a stopped evaluation was.

        Raises what the model raises, HarnessMissing, EvaluationError and OSError.

        Args:
            model: what is asked.
            folder: of its replies, and of its own report.
            on_progress: called as often as something changes; what it raises ends the evaluation.
        """
        own = replace(self._plan, tasks=[copy(task) for task in self._plan.tasks])  # a task may remember what it read
        return list(task_scores(run(own, [model], folder, lambda _: on_progress())))

    def _check(self, *, run_untrusted_code: bool) -> None:
        tasks = self._plan.tasks
        if twice := [name for name, n in Counter(task.name for task in tasks).items() if n > 1]:
            raise ComparisonError(f"evaluation: several tasks have the name {', '.join(twice)}")
        if coding := [task.name for task in tasks if task.runs_code]:
            try:
                Sandbox(run_untrusted_code)
            except NoIsolation as error:
                raise ComparisonError(f"evaluation, {', '.join(coding)}: {error}") from error
        self._facts["tasks"] = [self._read(task) for task in tasks]
        if not self._items:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.not_run.items())
            raise ComparisonError(f"evaluation: no task can run: {reasons}")

    def _read(self, task: Task) -> dict[str, Any]:
        """Read the items of a task. Returns what makes it the same."""
        facts: dict[str, Any] = {"name": task.name, "metrics": [asdict(metric) for metric in task.metrics]}
        facts["code"] = sha256_file(task.defined_in) if task.defined_in is not None else None
        try:
            found = task.load(self._plan.data)
        except (DataMissing, BadData) as error:
            self.not_run[task.name] = str(error)
            return facts
        items = self._items[task.name] = draw(found.items, self._plan.limit, self._plan.seed)
        return facts | {"data": dict(found.digests), "items": sha256_of_parts([item.id for item in items])}
