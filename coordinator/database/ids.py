"""Row ids."""

import itertools
import secrets
from datetime import datetime

_counter = itertools.count()


def new_id(now: datetime) -> str:
    """A unique id that sorts by creation: milliseconds, this process's counter and 64 random bits, in hexadecimal."""
    return f"{first_id(now)}{next(_counter) & 0xFFFF:04x}{secrets.token_hex(8)}"


def first_id(at: datetime) -> str:
    """A text that sorts before the ids made at this time or later, and after those made in earlier milliseconds."""
    return f"{max(0, int(at.timestamp() * 1000)):012x}"
