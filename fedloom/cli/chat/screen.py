"""Draws two answers to one question: in two columns, or one below the other on a narrow terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from agent.orders.protocol import ChildProgress
from fedloom.cli.adapter.local_child import progress_text
from fedloom.cli.plain_table import PlainTable

NARROW = 60
"""Terminal width in characters below which the answers are drawn one below the other."""
_FRAME_LINES = 2  # a panel's top and bottom
_FRAME_WIDTH = 4  # a panel's left and right, with the padding, in characters
_REFRESH_PER_S = 12


@dataclass
class Column:
    """One model's answer so far. status: shown until the first text arrives."""

    title: str
    text: str = ""
    status: str = ""

    def progress(self, progress: ChildProgress) -> None:
        """Show the child's progress as the status."""
        self.status = progress_text(progress)

    def append(self, text: str) -> None:
        """Add the next text of the answer."""
        self.text += text


@dataclass
class Answers:
    """Both answers, as rich draws them. growing: show only the last lines, as many as fit on the terminal."""

    base: Column
    adapted: Column
    growing: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # a terminal echoes ^C after the last line; wrapped to a new line, it would shift the next drawing
        width, lines = options.max_width - len("^C"), console.height - 1
        if options.max_width < NARROW:
            yield self._panel(console, self.base, width, lines // 2)
            yield self._panel(console, self.adapted, width, lines // 2)
            return
        grid = PlainTable.grid()
        grid.add_row(*(self._panel(console, column, width // 2, lines) for column in (self.base, self.adapted)))
        yield grid

    def _panel(self, console: Console, column: Column, width: int, lines: int) -> RenderableType:
        answer = _printable(column.text)
        body = Text(answer or column.status, "" if answer else "dim", overflow="fold")
        if self.growing:
            body = Text("\n", overflow="fold").join(
                body.wrap(console, width - _FRAME_WIDTH)[-max(1, lines - _FRAME_LINES) :]
            )
        title = Text(column.title, style="bold", overflow="ellipsis", no_wrap=True)
        return Panel(body, title=title, title_align="left", border_style="dim", width=width)


def _printable(text: str) -> str:
    """Text without control characters: a model may generate some that move the cursor."""
    return "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" else "\ufffd" for c in text)


@contextmanager
def drawn(console: Console, answers: Answers) -> Iterator[None]:
    """Redraw the answers while they grow. At the end of the block both stay on the terminal in full."""
    answers.growing = True
    with Live(answers, console=console, refresh_per_second=_REFRESH_PER_S):
        try:
            yield
        finally:
            answers.growing = False
