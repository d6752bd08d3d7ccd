"""Whether something in the folder of evaluation data has changed."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, size, time and inode of each file."""
_DEPTH = 4
"""Folders below the folder of data that are looked into: the files of tasks lie one or two below it."""

_MOST_FILES = 20_000
"""The most files that are looked at: somebody may name a folder with everything in it."""


def stamp_of(data: Path) -> Stamp:
    """What changes when a file of the folder comes, goes or changes."""
    return tuple(sorted(islice(_files(str(data), _DEPTH), _MOST_FILES)))


def _files(folder: str, depth: int) -> Iterator[tuple[str, int, int, int]]:
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError:  # it is not there, or cannot be read: tasks say so
        return
    for entry in entries:
        try:
            if depth and entry.is_dir():
                yield from _files(entry.path, depth - 1)
                continue
            status = entry.stat()
        except OSError:
            yield entry.path, 0, 0, 0
            continue
        yield entry.path, status.st_size, status.st_mtime_ns, status.st_ino
