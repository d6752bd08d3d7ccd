"""Time, injected, so that tests move the clock instead of waiting."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...

    def not_before(self, at: datetime) -> None:
        """Go on from a time, where it is not that late yet."""
        ...


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _seconds() -> float:
    """Seconds that no setting of the clock touches; on Linux those in which the machine slept count too."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boot_time) if boot_time is not None else time.monotonic()


class SystemClock:
    """The machine's clock as it was at the start, and the seconds since then.

    So nobody who sets the clock, or corrects it by hours, moves a deadline, a lease or an engine's claim of a process
    that is running.
    """

    def __init__(self, wall: Callable[[], datetime] = _utc_now, seconds: Callable[[], float] = _seconds) -> None:
        self._seconds = seconds
        self._origin = wall() - timedelta(seconds=seconds())

    def now(self) -> datetime:
        return self._origin + timedelta(seconds=self._seconds())

    def not_before(self, at: datetime) -> None:
        self._origin += max(at - self.now(), timedelta(0))
