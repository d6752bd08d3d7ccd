"""How long the rest of an evaluation may take, by the pace of what was asked in this run."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fedloom.cli import output
from fedloom.cli.adapter.local_child import progress_text
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from fedloom.evaluation.running.plan import Progress

_KNOWN_ITEMS = 8
"""With fewer items there is no pace."""


class Pace:
    """Counts items that were asked, and the time that they took. Stored replies cost none, and tell nothing.

    An item of one task may take longer than one of another, so what is left is "about".
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._of: tuple[str, str] = ("", "")
        self._last = (0.0, 0.0)
        self._items = self._seconds = 0.0

    def in_words(self, progress: "Progress") -> str:
        """Where the evaluation is, and how long the rest may take if that is known."""
        if progress.waits_for is not None:  # it is no pace
            self._of = ("", "")
            return f"base model: {progress_text(progress.waits_for)}"
        now, of = self._now(), (progress.task, progress.model)
        if progress.model and of == self._of:
            items, began = self._last
            self._items += max(0.0, progress.items_done - items)
            self._seconds += now - began
        self._of, self._last = of, (progress.items_done, now)
        said = f"{progress.task}, {visible_line(progress.model)}: {progress.done:,} of {progress.total:,}"
        left = progress.items_total - progress.items_done
        if self._items < _KNOWN_ITEMS or left <= 0:
            return said
        return f"{said}; about {output.duration(self._seconds / self._items * left)} left for all tasks"
