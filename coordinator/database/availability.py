"""Whether the database answers: one line in the log when it stops, one when it answers again, nothing in between."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from coordinator.errors import DatabaseAway

log = logging.getLogger(__name__)

CALM_S = 3.0
"""Seconds without a failure after which the database counts as back: while it restarts, some statements succeed."""


class Availability:
    """What one process knows about its database, from requests and background work together."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._has_answered = False
        self._away_since: float | None = None
        self._failed_at = 0.0
        self._only_writes = True

    def failed(self, error: DatabaseAway) -> None:
        """Note an attempt that failed. At a start, before the first answer, the caller says why it cannot start."""
        if not self._has_answered:
            return
        self._failed_at = self._seconds()
        if self._away_since is None:
            self._away_since, self._only_writes = self._failed_at, True
            log.error("the database is away: %s. Requests get 503, all work waits until it is back", error)
        self._only_writes = self._only_writes and error.only_writes

    def answered(self, *, wrote: bool) -> None:
        """Note an attempt that succeeded. wrote: whether it was a transaction that may write."""
        self._has_answered = True
        if self._away_since is None or (self._only_writes and not wrote):
            return
        now = self._seconds()
        if now - self._failed_at >= CALM_S:
            log.warning("the database is back; it was away for %d s", now - self._away_since)
            self._away_since = None


@contextmanager
def errors_logged(log: logging.Logger, message: str, *args: object) -> Iterator[None]:
    """Log an error of the block with its traceback, and continue. An absent database was logged when it went away."""
    try:
        yield
    except DatabaseAway:
        pass
    except Exception:
        log.exception(message, *args)
