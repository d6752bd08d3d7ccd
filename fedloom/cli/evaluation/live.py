"""What ``fedloom evaluate`` shows while it runs: a table on a terminal, and lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fedloom.cli import output
from fedloom.cli.evaluation.pace import Pace
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from rich.table import Table

    from fedloom.evaluation.results import ModelResult, Results, TaskResult
    from fedloom.evaluation.running.plan import Progress

LINE_EVERY_S = 30.0


@contextmanager
def live_table() -> "Iterator[Callable[[Progress], None]]":
    """Show the table while the block runs; without a terminal, lines."""
    from rich.live import Live

    console = output.console(stderr=True)
    if not console.is_terminal:
        yield Lines().show
        return
    pace = Pace()
    with Live(console=console, transient=True, refresh_per_second=4) as live:

        def show(progress: "Progress") -> None:
            if progress.leaves:
                live.console.print(visible_line(progress.leaves), markup=False, highlight=False, soft_wrap=True)
            table = results_table(progress.results)
            said = pace.in_words(progress)
            if progress.model or progress.waits_for is not None:
                table.caption = said
            live.update(table)

        yield show


class Lines:
    """A line for each task that ends, or cannot be run, and one now and then for where the run is.

    A download or a load of the base model has one when it begins.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._pace = Pace(now)
        self._seen: set[str] = set()
        self._said_at = now()
        self._phase = ""

    def show(self, progress: "Progress") -> None:
        """Print what is new."""
        if progress.leaves:
            output.say(visible_line(progress.leaves), err=True)
        said = self._pace.in_words(progress)
        for task in progress.results.tasks:
            if task.name not in self._seen:
                self._seen.add(task.name)
                output.say(_line(task), err=True)
        phase = progress.waits_for.phase if progress.waits_for is not None else ""
        is_new, self._phase = phase not in ("", self._phase), phase
        if is_new or ((progress.model or phase) and self._now() - self._said_at >= LINE_EVERY_S):
            self._said_at = self._now()
            output.say(said, err=True)


def _line(task: "TaskResult") -> str:
    from fedloom.evaluation.words import value_in_words

    if task.not_run:
        return f"{task.name}: not run: {visible_line(task.not_run)}"
    values = ", ".join(f"{visible_line(each.model)} {value_in_words(each.numbers[0])}" for each in task.models)
    judge = f"; by {visible_line(str(task.judge))}" if task.judge is not None else ""
    return f"{task.name}: {task.models[0].numbers[0].metric.name} {values}{judge}{left_out(task)}"


def left_out(task: "TaskResult") -> str:
    """Items that were asked and do not count, of the model with the most of them; empty if all count."""
    from fedloom.evaluation.tasks.base import COMPARED_WITH

    numbers = [each.numbers[0] for each in task.models if COMPARED_WITH not in each.numbers[0].problems]
    if not numbers:
        return ""
    number = max(numbers, key=lambda number: number.n_problems)
    reasons = "; ".join(f"{count:,} {visible_line(problem)}" for problem, count in list(number.problems.items())[:2])
    return f"; {number.n_problems:,} of {number.n_asked:,} items do not count: {reasons}" if number.n_problems else ""


def results_table(results: "Results") -> "Table":
    """The values of all metrics by model, and the difference of each adapter to the base."""
    names = [visible_line(model.name) for model in results.models]
    table = output.table("TASK", "METRIC", "ITEMS", *names, right=["ITEMS", *names], fold=names)
    for column in table.columns[:3]:
        column.no_wrap, column.min_width = True, 1
    for task in results.tasks:
        if task.not_run:
            table.add_row(task.name, "not run", "")
            continue
        for place, number in enumerate(task.models[0].numbers):
            n = max(model.numbers[place].n for model in task.models)
            items = f"{n:,} of {number.n_published:,}" if number.n_published else f"{n:,}"
            cells = (_cell(model, place, n) for model in task.models)
            table.add_row(task.name if place == 0 else "", number.metric.name, items, *cells)
    return table


def _cell(model: "ModelResult", place: int, n: int) -> str:
    """A value, how it differs from the base's, and how many items it is of where others have more."""
    from fedloom.evaluation.words import change_in_words, value_in_words

    number = model.numbers[place]
    change = next((change_in_words(d) for d in model.differences if d.metric.name == number.metric.name), "")
    fewer = f" n={number.n:,}" if number.n < n and number.value is not None else ""
    return f"{value_in_words(number)}{f' ({change})' if change else ''}{fewer}"
