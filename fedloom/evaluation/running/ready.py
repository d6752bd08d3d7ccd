"""What can be told of tasks before a model is loaded: their items, or why they are not run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedloom.evaluation.data.overlap import overlap
from fedloom.evaluation.data.sampling import draw
from fedloom.evaluation.data.training_rows import training_texts
from fedloom.evaluation.results import TaskResult
from fedloom.evaluation.running.plan import Plan
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.tasks.base import BadData, DataMissing, Item, Task


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


def prepare(plan: Plan) -> list[ReadyTask]:
    """Read the data of all tasks, and check what else they need, such as the sandbox.

    Nobody waits an hour for a model to learn that bubblewrap is missing. Raises HarnessMissing, EvaluationError
    if training rows cannot be read, and OSError.
    """
    return [_prepared(task, plan) for task in plan.tasks]


def _prepared(task: Task, plan: Plan) -> ReadyTask:
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
    except (DataMissing, BadData, NoIsolation) as error:
        return ReadyTask(task, replace(facts, not_run=str(error)))
    items = draw(found.items, plan.limit, plan.seed)
    facts = replace(
        facts,
        digests=dict(found.digests),
        items=[item.id for item in items],
        n_published=found.n_published,
        notes=list(found.notes),
        overlap=overlap(items, training_texts(plan.training)).warning(task.name) if plan.training else "",
    )
    return ReadyTask(task, facts, items)
