"""Tells the owner when the coordinator answers again after it did not."""

import logging
import time

log = logging.getLogger(__name__)

_MINUTE_S, _HOUR_S = 60, 3600


class Outage:
    """Whether the coordinator answers, and since when not."""

    def __init__(self) -> None:
        self._began: float | None = None

    def failed(self) -> None:
        """Note a request without an answer. The caller logs the reason."""
        if self._began is None:
            self._began = time.monotonic()

    def answered(self) -> None:
        """Note an answer; if it ends an outage, say so."""
        if self._began is not None:
            log.info("the coordinator is back again, after %s", _in_words(time.monotonic() - self._began))
            self._began = None


def _in_words(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h"
