"""Row ids."""

import itertools
import secrets
from datetime import datetime

_counter = itertools.count()


def new_id(now: datetime) -> str:
    """A unique id that sorts by creation: milliseconds, this process's counter and 64 random bits, in hexadecimal."""
    return f"{int(now.timestamp() * 1000):012x}{next(_counter) & 0xFFFF:04x}{secrets.token_hex(8)}"
