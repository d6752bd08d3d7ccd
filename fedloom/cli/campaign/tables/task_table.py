"""The tasks that agents work on, for `watch`: as many columns as the terminal has room for."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from fedloom.cli import output
from fedloom.cli.bar import Bar
from fedloom.cli.campaign.page import doing_now, done_of_total
from shared.metrics import Metric
from shared.wire.campaigns import CampaignDetail, TaskView
from shared.wire.tasks.leases import Progress

TASKS_SHOWN = 12
_BAR_WIDTH, _NAME_WIDTH = 12, 20
_BAR = ""
"""Title of the column of bars."""

Column = tuple[str, Sequence[RenderableType]]
"""A title, and a cell for each task."""


def tasks_at_work(campaign: CampaignDetail, tasks: Sequence[TaskView], width: int) -> Table:
    """A table of the first TASKS_SHOWN tasks for a terminal of *width* columns.

    What does not fit is left out: the bar first, then the speed, then metrics of the kind from the last to the first.
    """
    shown = sorted(tasks, key=lambda task: task.agent_name)[:TASKS_SHOWN]
    reported = {name for task in shown if task.progress for name in task.progress.metrics}
    own = [metric for metric in campaign.metrics if metric.name in reported]
    progress = [task.progress for task in shown]
    agent = ("AGENT", [task.agent_name for task in shown])
    doing = ("DOING", [_doing(task) for task in shown])
    bars = (_BAR, [_bar(each) for each in progress])
    done = ("DONE", [done_of_total(each) if each else "" for each in progress])
    loss = ("LOSS", [output.loss(each.loss) if each else "" for each in progress])
    metrics = [(metric.title.upper(), [_value(each, metric) for each in progress]) for metric in own]
    speed = ("TOKENS/S", [_speed(each) for each in progress])
    chosen = _fitting([agent, doing, done, loss, *metrics, speed, bars], width)
    columns = [each for each in (agent, doing, bars, done, loss, *metrics, speed) if each[0] in chosen]
    titles = [title for title, _ in columns]
    table = output.table(
        *titles, right=[each for each in titles if each not in ("AGENT", "DOING", _BAR)], fold=["AGENT"]
    )
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*row)
    return table


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


def _speed(progress: Progress | None) -> str:
    return f"{progress.tokens_per_s:.0f}" if progress and progress.tokens_per_s is not None else ""
