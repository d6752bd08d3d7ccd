"""Lines of text files, none of which may fill the memory."""

from collections.abc import Iterator
from typing import TextIO

MAX_CHARACTERS = 32_000_000
"""Of one record. Memory is a few times that."""


class RecordTooLong(Exception):
    """A record beyond all records of people: a quote in it is never closed, or the file is not one of rows."""


def bounded_lines(file: TextIO) -> Iterator[str]:
    """Yield the lines of a file. Raises RecordTooLong at one with more than MAX_CHARACTERS."""
    while line := file.readline(MAX_CHARACTERS + 1):
        if len(line) > MAX_CHARACTERS:
            raise RecordTooLong
        yield line
