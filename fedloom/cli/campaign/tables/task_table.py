"""The tasks that agents work on, for `show` and `watch`: as many columns as the terminal has room for."""

from collections.abc import Callable, Sequence

from rich.console import RenderableType
from rich.table import Table

from fedloom.cli import output
from fedloom.cli.bar import Bar
from fedloom.cli.campaign.tables import task_cells
from fedloom.cli.campaign.tables.task_cells import doing_now, done_of_total, task_in_words
from shared.metrics import Metric
from shared.states import TaskState
from shared.wire.campaigns import CampaignDetail, TaskView
from shared.wire.tasks.leases import Progress

TASKS_SHOWN = 12
_BAR_WIDTH, _NAME_WIDTH = 12, 20
_BAR = ""
"""Title of the column of bars."""
_LEFT = ("AGENT", "TASK", "DOING", _BAR)
"""Columns of texts; the others are numbers."""
_FOLD = ("AGENT", "TASK")

Column = tuple[str, Sequence[RenderableType]]
"""A title, and a cell for each task."""


def open_tasks(tasks: Sequence[TaskView], width: int) -> Table:
    """A table of all tasks that are not done, for a terminal of *width* columns.

    Of what owners report live, what does not fit is left out: the GPU first, then the memory, then the time left.
    """
    progress = [task.progress if task.state is TaskState.LEASED else None for task in tasks]
    columns: list[Column] = [
        ("AGENT", [task.agent_name for task in tasks]),
        ("TASK", [task_in_words(task) for task in tasks]),
        ("ROUND", ["" if task.round is None else str(output.bounded(task.round)) for task in tasks]),
        ("DOING", [doing_now(task) for task in tasks]),
        ("DONE", list(map(done_of_total, progress))),
        ("LOSS", list(map(task_cells.loss, progress))),
        ("TOKENS/S", list(map(task_cells.speed, progress))),
    ]
    usual = {title for title, _ in columns}
    columns += [*_known("LEFT", task_cells.time_left, progress), *_machine(progress)]
    chosen = usual | _fitting(columns, width)
    return _table([each for each in columns if each[0] in chosen])


def tasks_at_work(campaign: CampaignDetail, tasks: Sequence[TaskView], width: int) -> Table:
    """A table of the first TASKS_SHOWN tasks for a terminal of *width* columns.

    What does not fit is left out: the bar first, then the GPU and the memory, then the speed, then metrics of the kind
    from the last to the first.
    """
    shown = sorted(tasks, key=lambda task: task.agent_name)[:TASKS_SHOWN]
    reported = {name for task in shown if task.progress for name in task.progress.metrics}
    own = [metric for metric in campaign.metrics if metric.name in reported]
    progress = [task.progress for task in shown]
    agent = ("AGENT", [task.agent_name for task in shown])
    doing = ("DOING", [_doing(task) for task in shown])
    bars = (_BAR, [_bar(each) for each in progress])
    done = ("DONE", list(map(done_of_total, progress)))
    loss = ("LOSS", list(map(task_cells.loss, progress)))
    left = _known("LEFT", task_cells.time_left, progress)
    metrics = [(metric.title.upper(), [_value(each, metric) for each in progress]) for metric in own]
    speed = ("TOKENS/S", list(map(task_cells.speed, progress)))
    machine = _machine(progress)
    chosen = _fitting([agent, doing, done, loss, *left, *metrics, speed, *machine, bars], width)
    columns: list[Column] = [agent, doing, bars, done, *left, loss, *metrics, speed, *machine]
    return _table([each for each in columns if each[0] in chosen])


def _table(columns: Sequence[Column]) -> Table:
    titles = [title for title, _ in columns]
    right = [title for title in titles if title not in _LEFT]
    table = output.table(*titles, right=right, fold=_FOLD)
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*row)
    return table


def _known(
    title: str, cell: Callable[[Progress | None], str], progress: Sequence[Progress | None]
) -> Sequence[tuple[str, Sequence[str]]]:
    """A column, or none if no task has anything in it."""
    cells = list(map(cell, progress))
    return [(title, cells)] if any(cells) else []


def _machine(progress: Sequence[Progress | None]) -> Sequence[tuple[str, Sequence[str]]]:
    """Columns of what tasks use of their machines."""
    return [*_known("MEMORY", task_cells.memory, progress), *_known("GPU", task_cells.gpu, progress)]


def _doing(task: TaskView) -> str:
    """What becomes of a task; of benchmarks, which."""
    words = doing_now(task, f"starting {task.kind}")
    return f"{words}: {output.some_of(task.benchmarks, 1)}" if task.benchmarks else words


def _fitting(by_importance: Sequence[Column], width: int) -> set[str]:
    """The titles of the first columns that fit side by side."""
    chosen: set[str] = set()
    for title, cells in by_importance:
        width -= max(len(title), *map(_width, cells)) + 2 if title != "AGENT" else _name_width(cells) + 2
        if width < -2 and chosen:  # the last column needs no space after it
            break
        chosen.add(title)
    return chosen


def _name_width(names: Sequence[RenderableType]) -> int:
    return min(_NAME_WIDTH, max(map(_width, names)))


def _width(cell: RenderableType) -> int:
    return len(cell) if isinstance(cell, str) else _BAR_WIDTH


def _bar(progress: Progress | None) -> RenderableType:
    if progress is None or not progress.total:
        return ""
    total, done = output.bounded(progress.total), output.bounded(progress.done)
    return Bar(total=total, completed=done, width=_BAR_WIDTH)


def _value(progress: Progress | None, metric: Metric) -> str:
    return metric.text(progress.metrics[metric.name]) if progress and metric.name in progress.metrics else ""
