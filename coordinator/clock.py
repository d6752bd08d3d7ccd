"""Time and chance, injected, so that tests move the clock instead of waiting."""

import itertools
import secrets
from datetime import UTC, datetime
from typing import Protocol

_counter = itertools.count()


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def new_id(now: datetime) -> str:
    """A unique id that sorts by creation: milliseconds, this process's counter and 64 random bits, in hexadecimal."""
    return f"{int(now.timestamp() * 1000):012x}{next(_counter) & 0xFFFF:04x}{secrets.token_hex(8)}"
