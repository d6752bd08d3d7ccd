"""SQLite's file, which must stay the one that was opened: connections to a deleted file write into nothing."""

import math
import os
import time
from pathlib import Path

from coordinator.errors import DatabaseAway

_LOOK_S = 0.05
"""Seconds for which prepared reads take the file for the one that was opened: they are many, and write nothing."""


class OpenedFile:
    """A file that connections have opened, or will."""

    def __init__(self, path: Path) -> None:
        self._path, self._name = path, str(path)
        self._identity: tuple[int, int] | None = None
        self._looked_at = -math.inf

    def check(self, *, looks: bool) -> None:
        """Raise DatabaseAway if the file was deleted or replaced.

        looks: look now. False, for a read by a connection that makes no new file: what was seen in the last _LOOK_S
        will do.
        """
        now = time.monotonic()
        if not looks and now - self._looked_at < _LOOK_S:
            return
        try:
            found = os.stat(self._name)  # noqa: PTH116  # each statement asks, and a Path takes twice as long
        except OSError:
            if self._identity is None:  # not created yet
                return
            identity = None
        else:
            identity = (found.st_dev, found.st_ino)
            self._identity = self._identity or identity
        self._looked_at = now if identity == self._identity else -math.inf
        if identity != self._identity:
            what = "deleted" if identity is None else "replaced"
            raise DatabaseAway(f"{self._path}: the file was {what} while it was in use; restart the coordinator")
