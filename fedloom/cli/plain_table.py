"""A table for a terminal whose text is never read as markup: it may be another party's."""

from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text


class PlainTable(Table):
    """A table of texts as they are. What has a style is given as ``Text``."""

    def add_row(self, *cells: RenderableType | None, **named: Any) -> None:
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **named)
