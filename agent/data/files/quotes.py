"""Finds what is wrong with the quotes of a table of text, which the csv module reports without the place."""

import csv
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class QuoteProblem:
    """A quote without an end, or text after its end.

    opened: the line of the quote. text_after: the line of the text that follows its end; None if it has no end.
    """

    opened: int
    text_after: int | None


def find_quote_problem(lines: Sequence[str], first: int, separator: str) -> QuoteProblem | None:
    """Return the first problem with the quotes of a record; None if there is none.

    Args:
        lines: the record's lines, with their line ends.
        first: the number of the first of them.
        separator: the separator of cells.
    """
    text = "".join(lines)
    starts = [0, *accumulate(map(len, lines))]

    def line_of(position: int) -> int:
        return first + bisect_right(starts, position) - 1

    cell_end = re.compile(rf"{re.escape(separator)}|\r\n|\r|\n|$")
    position = 0
    while position < len(text):
        if text[position] == '"':
            opened = position
            position = _end_of_quoted(text, opened)
            if position < 0:
                return QuoteProblem(line_of(opened), None)
            if not cell_end.match(text, position):
                return QuoteProblem(line_of(opened), line_of(position))
        end = cell_end.search(text, position)
        position = end.end() if end is not None and end.end() > position else position + 1
    return None


def _end_of_quoted(text: str, opened: int) -> int:
    """The position after the quote that closes the one at *opened*, or -1. A doubled quote is part of the text."""
    position = opened + 1
    while (position := text.find('"', position)) >= 0:
        if text[position + 1 : position + 2] != '"':
            return position + 1
        position += 2
    return -1


def holds_a_record(cells: Sequence[str], separator: str) -> bool:
    """Return whether a line within a cell looks like a record of its own: a quote may be closed too late.

    Such a line has as many cells as the record itself. In prose a blank follows a comma, so cells that begin with one
    do not count.
    """
    if len(cells) < 2:
        return False
    for cell in cells:
        for line in _LINE_END.split(cell)[1:]:
            if line.count(separator) < len(cells) - 1:
                continue
            alone = next(csv.reader([line], delimiter=separator), [])
            if len(alone) == len(cells) and not any(part[:1] in (" ", "") for part in alone[1:]):
                return True
    return False
