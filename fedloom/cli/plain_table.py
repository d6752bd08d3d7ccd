"""A table for a terminal whose text is never read as markup: it may be another party's."""

from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedloom.cli.plain_console import PlainConsole
from shared.text.plain_text import visible_line


class PlainTable(Table):
    """A table of texts as they are. What has a style is given as ``Text``."""

    def add_row(self, *cells: RenderableType | None, **named: Any) -> None:
        super().add_row(*(_Cell(visible_line(cell)) if isinstance(cell, str) else cell for cell in cells), **named)


class _Cell(Text):
    """A text that takes the room of what the console shows of it."""

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        shown = console.shown(self) if isinstance(console, PlainConsole) else self
        return Text.__rich_measure__(shown, console, options)
