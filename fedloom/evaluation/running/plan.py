"""What is evaluated, and where an evaluation is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.orders.protocol import ChildProgress
from fedloom.evaluation.data.training_rows import TrainingRows
from fedloom.evaluation.judging.judge import Judge
from fedloom.evaluation.results import Results
from fedloom.evaluation.statistics.averages import Average
from fedloom.evaluation.tasks.base import Item, Task


@dataclass(frozen=True)
class Plan:
    """What is evaluated.

    Args:
        tasks: in their order.
        averages: means over them.
        suite: its name, for the results.
        data: folder of evaluation data.
        limit: most items a task; None for all.
        seed: of the draw and the resamples.
        training: rows that a model was trained on, in which items are looked for.
        title: the suite's; empty for tasks by name.
        judge: of answers to open-ended questions; None for none.
        part: which items of a task may be drawn, given its name and all of them. Raises BadData if there is none.
    """

    tasks: Sequence[Task]
    averages: Sequence[Average]
    suite: str
    data: Path
    limit: int | None = None
    seed: int = 0
    training: Sequence[TrainingRows] = ()
    title: str = ""
    judge: Judge | None = None
    part: Callable[[str, Sequence[Item]], Sequence[Item]] = lambda _, items: items


@dataclass(frozen=True)
class Progress:
    """Where an evaluation is.

    Args:
        task: name of the task; empty before the first one.
        model: name of the model; empty between tasks.
        done: requests of this task and model with a reply.
        total: how many there are; 0 while it is unknown.
        results: all that is there by now.
        items_done: number of finished items of all tasks; an item counts once for each model.
        items_total: how many there are.
        waits_for: the download or the load of the base model that comes before replies; None if there is none.
        leaves: text about what leaves this machine, shown once before anything does; empty if nothing leaves.
    """

    task: str
    model: str
    done: int
    total: int
    results: Results
    items_done: float = 0.0
    items_total: int = 0
    waits_for: ChildProgress | None = None
    leaves: str = ""


OnProgress = Callable[[Progress], None]
