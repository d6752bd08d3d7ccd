"""Clocks. They are injected, so that tests move the clock instead of waiting."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> datetime:
        """The current time, timezone-aware, in UTC."""
        ...

    def not_before(self, at: datetime) -> None:
        """Advance the clock to a time, unless it is later already."""
        ...


_LAST = datetime(9998, 12, 31, tzinfo=UTC)


def later(since: datetime, seconds: float) -> datetime:
    """The time *seconds* after another; at most the end of 9998, so that no wait is too long for a date."""
    try:
        return min(since + timedelta(seconds=seconds), _LAST)
    except OverflowError:
        return _LAST


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _seconds() -> float:
    """Seconds unaffected by changes of the wall clock. On Linux they include time asleep."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boot_time) if boot_time is not None else time.monotonic()


class SystemClock:
    """The machine's wall clock at the start, plus monotonic seconds since then.

    A change of the wall clock therefore moves no deadline, lease or engine claim of a running process.
    """

    def __init__(self, wall: Callable[[], datetime] = _utc_now, seconds: Callable[[], float] = _seconds) -> None:
        self._seconds = seconds
        self._origin = wall() - timedelta(seconds=seconds())

    def now(self) -> datetime:
        return self._origin + timedelta(seconds=self._seconds())

    def not_before(self, at: datetime) -> None:
        self._origin += max(at - self.now(), timedelta(0))
