"""What can be told of tasks before a model is loaded: their items, or why they are not run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fedloom.errors import EvaluationError
from fedloom.evaluation.data.overlap import overlaps
from fedloom.evaluation.data.sampling import draw
from fedloom.evaluation.data.training_rows import training_texts
from fedloom.evaluation.results import TaskResult
from fedloom.evaluation.running.plan import Plan
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.tasks.base import BadData, DataMissing, Item, Task
from fedloom.evaluation.tasks.chat.judged_task import NoJudge
from shared.digest import sha256_file, sha256_of_parts


@dataclass(frozen=True)
class ReadyTask:
    """A task with its items.

    Args:
        task: what is run.
        facts: of its data; ``not_run`` says why it cannot be run.
        items: what is asked; empty if it cannot be run.
    """

    task: Task
    facts: TaskResult
    items: Sequence[Item] = ()

    @property
    def can_run(self) -> bool:
        return not self.facts.not_run

    def identity(self) -> dict[str, Any]:
        """What makes a task the same: its metrics, the code of one's own, and, if it can run, data and items."""
        task = self.task
        code = sha256_file(task.defined_in) if task.defined_in is not None else None
        facts: dict[str, Any] = {"name": task.name, "metrics": [asdict(each) for each in task.metrics], "code": code}
        if self.can_run:
            facts |= {"data": dict(self.facts.digests), "items": sha256_of_parts(self.facts.items)}
        return facts


def prepare(plan: Plan, n_models: int = 1) -> list[ReadyTask]:
    """Read the data of all tasks, and check what else they need, such as the sandbox.

    Nobody waits an hour for a model to learn that bubblewrap is missing. Raises HarnessMissing, EvaluationError
    if training rows cannot be read, and OSError. n_models: how many are asked.
    """
    ready = [_prepared(task, plan, n_models) for task in plan.tasks]
    wanted = {each.task.name: each.items for each in ready if each.can_run}
    if not plan.training or not wanted:
        return ready
    found = overlaps(wanted, training_texts(plan.training))
    warnings = {name: overlap.warning(name) for name, overlap in found.items()}
    return [replace(each, facts=replace(each.facts, overlap=warnings.get(each.facts.name, ""))) for each in ready]


def check_some_can_run(ready: Sequence[ReadyTask]) -> None:
    """Raise EvaluationError, with the first reason, if there is nothing to ask a model."""
    if any(each.can_run for each in ready):
        return
    reason = ready[0].facts.not_run
    names = [each.task.name for each in ready if each.facts.not_run == reason]
    n_others = len(ready) - len(names)
    are_others = f"{n_others} other{'s' if n_others > 1 else ''}"
    more = f"; nor can {are_others}, as `fedloom evaluate --list` says" if n_others else ""
    raise EvaluationError(f"nothing can be run: {', '.join(names)}: {reason}{more}")


def _prepared(task: Task, plan: Plan, n_models: int) -> ReadyTask:
    facts = TaskResult(
        name=task.name,
        title=task.title,
        origin=task.origin,
        shots=task.shots,
        licences={file.path: file.licence for file in task.files},
    )
    try:
        found = task.load(plan.data)
        task.check()
        items = draw(plan.part(task.name, found.items), plan.limit, plan.seed)
    except (DataMissing, BadData, NoIsolation, NoJudge) as error:
        return ReadyTask(task, replace(facts, not_run=str(error)))
    if task.compares_models and n_models < 2:
        reason = "it compares adapters with the base model: name an adapter's folder"
        return ReadyTask(task, replace(facts, not_run=reason))
    facts = replace(
        facts,
        digests=dict(found.digests),
        items=[item.id for item in items],
        n_published=found.n_published,
        notes=list(found.notes),
    )
    return ReadyTask(task, facts, items)
