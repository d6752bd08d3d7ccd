"""Evaluation tasks of a comparison: checked before anything is trained, then asked of each trained model."""

from collections.abc import Callable
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fedloom.comparison.tasks.scores import TaskScore, task_scores
from fedloom.errors import ComparisonError, EvaluationError
from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.replies import stored
from fedloom.evaluation.running.folder import alone_in
from fedloom.evaluation.running.leaving import what_leaves
from fedloom.evaluation.running.plan import Plan
from fedloom.evaluation.running.ready import check_some_can_run, prepare
from fedloom.evaluation.running.run import run_ready


class TaskEvaluation:
    """Tasks with the items that every model gets."""

    def __init__(self, plan: Plan) -> None:
        """Read the data of all tasks. Raises HarnessMissing, EvaluationError and OSError.

        plan: what is asked.
        """
        self._plan = plan
        self._ready = prepare(plan)
        self.leaves = what_leaves(plan.judge, self._ready, 1)
        """What is sent to the judge for each model; empty if nothing is."""
        self.facts: dict[str, Any] = {
            "seed": plan.seed,
            "averages": [asdict(each) for each in plan.averages],
            "tasks": [each.identity() for each in self._ready],
            "judge": [plan.judge.endpoint.url, plan.judge.endpoint.model] if plan.judge is not None else None,
        }
        """What makes two evaluations the same: items, data, metrics, and the code of tasks of one's own."""

    def check(self) -> None:
        """Raise ComparisonError if no task can run."""
        try:
            check_some_can_run(self._ready)
        except EvaluationError as error:
            raise ComparisonError(f"evaluation: {error}") from error

    @property
    def n_items(self) -> dict[str, int]:
        """How many items are asked, by task; of tasks that can run."""
        return {each.facts.name: len(each.items) for each in self._ready if each.can_run}

    @property
    def not_run(self) -> list[str]:
        """The tasks that cannot run, and why."""
        return [f"{name}: not run: {reason}" for name, reason in self.reasons.items()]

    @property
    def reasons(self) -> dict[str, str]:
        """Why tasks cannot run, by name."""
        return {each.facts.name: each.facts.not_run for each in self._ready if not each.can_run}

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
