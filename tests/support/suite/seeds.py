"""One seed a day for tests of faults at random places: every day elsewhere, and each failure can be had again."""

import os
from datetime import UTC, datetime
from functools import cache

VARIABLE = "FEDLOOM_FAULT_SEED"


@cache
def seed_of_today() -> int:
    """The number in FEDLOOM_FAULT_SEED, or else today's date."""
    return int(os.environ.get(VARIABLE) or datetime.now(UTC).strftime("%Y%m%d"))
