"""The file that an export is written to."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from fedloom.errors import InvalidOption
from shared.system.durable import atomic_write


@contextmanager
def opened(path: Path | None, *, force: bool) -> Iterator[TextIO]:
    """A text file for the block that appears complete or not at all; stdout for None.

    Only its owner may read it: it has the losses of each client. force: replaces a file that exists.
    Raises errors.InvalidOption for one that may not be replaced, and OSError.
    """
    if path is None:
        if sys.stdout is None:  # there is no output at all
            yield io.StringIO()
            return
        with _as_text(sys.stdout.buffer) as text:
            yield text
        return
    if path.exists() and not path.is_file():
        raise InvalidOption(f"{path} is not a file")
    if path.exists() and not force:  # asked here too, before anything is fetched
        raise InvalidOption(_exists(path))
    try:
        with atomic_write(path, mode=0o600, replace=force) as binary, _as_text(binary) as text:
            yield text
    except FileExistsError as error:
        raise InvalidOption(_exists(path)) from error


@contextmanager
def _as_text(binary: IO[bytes]) -> Iterator[TextIO]:
    """UTF-8, whatever the terminal's encoding: the reader is a program."""
    text = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=True)
    try:
        yield text
    finally:
        text.detach()  # the owner closes it


def _exists(path: Path) -> str:
    return f"{path} exists; --force replaces it"
