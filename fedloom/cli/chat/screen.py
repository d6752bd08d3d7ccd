"""How two answers to one question look: side by side where there is room, otherwise one below the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fedloom.cli.adapter.local_child import in_words
from shared.wire.leases import Progress

NARROW = 60
"""Columns of a terminal below which two answers do not fit beside each other."""
_EDGES = 2  # lines of a panel's frame
_SIDES = 4  # columns of it, with the space inside
_REFRESH_PER_S = 12


@dataclass
class Side:
    """One model's answer so far. waiting: what is done until its first text comes."""

    title: str
    text: str = ""
    waiting: str = ""

    def progress(self, progress: Progress) -> None:
        """Take the child's word on what it is doing."""
        self.waiting = in_words(progress)

    def piece(self, text: str) -> None:
        """Take more of the answer."""
        self.text += text


@dataclass
class Answers:
    """Two sides, as rich draws them. growing: only the ends are shown that the terminal has room for."""

    base: Side
    adapted: Side
    growing: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # a terminal writes ^C behind the last line; in a line of its own it would shift what is drawn next
        width, lines = options.max_width - len("^C"), console.height - 1
        if options.max_width < NARROW:
            yield self._panel(console, self.base, width, lines // 2)
            yield self._panel(console, self.adapted, width, lines // 2)
            return
        grid = Table.grid()
        grid.add_row(*(self._panel(console, side, width // 2, lines) for side in (self.base, self.adapted)))
        yield grid

    def _panel(self, console: Console, side: Side, width: int, lines: int) -> RenderableType:
        body = Text(_harmless(side.text) if side.text else side.waiting, "" if side.text else "dim", overflow="fold")
        if self.growing:
            body = Text("\n", overflow="fold").join(body.wrap(console, width - _SIDES)[-max(1, lines - _EDGES) :])
        title = Text(side.title, style="bold", overflow="ellipsis", no_wrap=True)
        return Panel(body, title=title, title_align="left", border_style="dim", width=width)


def _harmless(text: str) -> str:
    """A model may generate what moves a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" else "\ufffd" for c in text)


@contextmanager
def drawn(console: Console, answers: Answers) -> Iterator[None]:
    """Draw the answers while they grow; what is left on the terminal at the end is all of them."""
    answers.growing = True
    with Live(answers, console=console, refresh_per_second=_REFRESH_PER_S):
        try:
            yield
        finally:
            answers.growing = False
