"""The content of a file as rows that have the columns a task reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedloom.evaluation.tasks.base import BadData
from fedloom.evaluation.tasks.files.formats import Content
from shared.text.words import repeated

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Columns:
    """Columns of which each row must have all.

    Args:
        texts: hold texts.
        values: hold anything but nothing.
        nullable: may hold nothing.
    """

    texts: Sequence[str] = ()
    values: Sequence[str] = ()
    nullable: Sequence[str] = ()


def rows_of(content: Content, columns: Columns) -> list[Row]:
    """The rows of a file. Raises BadData, which names a row by its place."""
    rows = _from_cells(content) if content.layout == "cells" else content.value
    if isinstance(rows, dict):
        rows = [rows]  # a file of one line
    if not isinstance(rows, list):
        raise BadData(f"{content.path} is no list of rows")
    for index, row in enumerate(rows):
        check_row(row, columns, content.place(index))
    return rows


def check_row(row: Any, columns: Columns, place: str) -> None:
    """Raise BadData if a row lacks a column, or has no text in one of texts."""
    if not isinstance(row, dict):
        raise BadData(f"{place} has no columns")
    needed = [*columns.texts, *columns.values]
    lacks = [name for name in needed if row.get(name) is None]
    lacks += [name for name in columns.nullable if name not in row]
    if lacks:
        raise BadData(f"{place} has no {' and no '.join(lacks)}")
    if no_text := [name for name in columns.texts if not isinstance(row[name], str)]:
        raise BadData(f"{place} has no text as {' and as '.join(no_text)}")


def _from_cells(content: Content) -> list[Row]:
    """Rows of CSV whose first line names the columns."""
    header, *cells = content.value or [[]]
    if twice := repeated(header):
        raise BadData(f"{content.path} has two columns {twice[:60]!r}")
    for index, row in enumerate(cells):
        if len(row) != len(header):
            raise BadData(f"{content.place(index)} does not have {len(header)} cells, as the first line has")
    return [dict(zip(header, row, strict=True)) for row in cells]
