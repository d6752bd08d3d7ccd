"""Reads tables of text strictly: CSV and TSV, with a header or with column names from the settings."""

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from agent.data.checks.notices import Note
from agent.data.files.file_record import BrokenRecord, FileRecord
from agent.data.files.lines import MAX_CHARACTERS, RecordTooLong, bounded_lines
from agent.data.files.quotes import find_quote_problem, holds_a_record
from agent.data.source import DataSource

_PLAIN_QUOTES = "if quotes are plain text here, set quotes = false"
_LOOKS_LIKE_A_RECORD = Note(
    f" has a cell of several lines, one of which looks like a record; check its quotes; {_PLAIN_QUOTES}"
)
_QUOTES_ARE_TEXT = Note(" has a blank before a quote, so the quotes of this cell are read as text; remove the blank")
_BLANK_BEFORE_QUOTES = re.compile(r"[ \t]+\".*\"[ \t]*", re.DOTALL)


class _Lines:
    """The lines of a file, counted. taken: those of the current record."""

    def __init__(self, file: TextIO) -> None:
        self._lines = bounded_lines(file)
        self._n_characters = 0
        self.number = 0
        self.taken: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self.taken.append(line)
        self._n_characters += len(line)
        if self._n_characters > MAX_CHARACTERS:
            raise RecordTooLong
        return line

    def begin_record(self) -> None:
        """Forget the lines of the record before."""
        self.taken.clear()
        self._n_characters = 0

    @property
    def first(self) -> int:
        """The number of the current record's first line."""
        return self.number - len(self.taken) + 1

    @property
    def place(self) -> str:
        """The current record's lines."""
        return f"line {self.number}" if len(self.taken) == 1 else f"the record on lines {self.first} to {self.number}"


def read_table(file: TextIO, source: DataSource, separator: str) -> Iterator[FileRecord]:
    """Yield the records of a table. *source* may name another separator, and the columns."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default, 128 KiB, is too small for documents
    separator = source.separator or separator
    lines = _Lines(file)
    try:
        reader = _reader(lines, separator, quotes=source.quotes)
    except TypeError:
        problem = "the separator of a table must be one character; correct it in agent.toml"
        yield FileRecord("", BrokenRecord(problem))
        return
    names = source.columns
    named_by = "the setting columns names"
    for cells in _cells(reader, lines, separator):
        if isinstance(cells, FileRecord):
            yield cells
            if names is None:  # without its header a table cannot be read
                return
        elif names is None:
            names, named_by = _unnamed_numbered(cells), "the header has"
            if repeated := _repeated(names):
                yield FileRecord("", repeated)
                return
        elif source.columns is None and [cells[0].lstrip("\ufeff"), *cells[1:]] == names:
            # files that were put together, whose rows all are records but for this one
            yield FileRecord(lines.place, BrokenRecord(" repeats the header; remove the line"))
        else:
            yield _record(cells, names, named_by, lines.place, separator)


def _reader(lines: Iterator[str], separator: str, *, quotes: bool) -> Iterator[list[str]]:
    """Raises TypeError if the separator is not one character."""
    if quotes:
        return csv.reader(lines, delimiter=separator, strict=True)
    return csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)


def _cells(reader: Iterator[list[str]], lines: _Lines, separator: str) -> Iterator[list[str] | FileRecord]:
    """The cells of each record that is not blank, or an error; reading continues on the line after an error."""
    while True:
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except RecordTooLong:
            problem = f"the record that begins on line {lines.first} has more than {MAX_CHARACTERS:,} characters"
            yield FileRecord("", BrokenRecord(f"{problem}; close its quotes; {_PLAIN_QUOTES}"))
            return
        except csv.Error as error:
            yield _broken(lines, separator, error)
            continue
        if cells:
            yield cells


def _broken(lines: _Lines, separator: str, error: csv.Error) -> FileRecord:
    problem = find_quote_problem(lines.taken, lines.first, separator)
    if problem is None:
        return FileRecord(f"line {lines.number}", BrokenRecord(f" is not CSV ({error})"))
    if problem.text_after is None:
        return FileRecord("", BrokenRecord(f"a quote opened on line {problem.opened} is never closed; {_PLAIN_QUOTES}"))
    opened = "" if problem.opened == problem.text_after else f", which was opened on line {problem.opened}"
    message = f" has text after a closing quote{opened}; a quote within a quoted cell is doubled; {_PLAIN_QUOTES}"
    return FileRecord(f"line {problem.text_after}", BrokenRecord(message))


def _unnamed_numbered(header: Sequence[str]) -> list[str]:
    """The names of the columns; one without a name is called by its number."""
    return [name if name.strip() else f"column {number}" for number, name in enumerate(header, 1)]


def _repeated(names: Sequence[str]) -> BrokenRecord | None:
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if name in first:
            message = f"columns {first[name]} and {number} of the header have the same name; rename one of them"
            return BrokenRecord(message, f": {name[:60]!r}")
        first[name] = number
    return None


def _record(cells: list[str], names: Sequence[str], named_by: str, place: str, separator: str) -> FileRecord:
    if len(cells) != len(names):
        counted = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
        return FileRecord(place, BrokenRecord(f" has {counted}, but {named_by} {len(names)}"))
    notes = []
    if holds_a_record(cells, separator):
        notes.append(_LOOKS_LIKE_A_RECORD)
    if any(_BLANK_BEFORE_QUOTES.fullmatch(cell) for cell in cells):
        notes.append(_QUOTES_ARE_TEXT)
    return FileRecord(place, dict(zip(names, cells, strict=True)), tuple(notes), is_of_table=True)
