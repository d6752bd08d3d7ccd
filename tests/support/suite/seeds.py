"""One seed a day for tests of faults at random places: new places every day, and reproducible failures."""

import os
from datetime import UTC, datetime
from functools import cache

VARIABLE = "FEDLOOM_FAULT_SEED"


@cache
def seed_of_today() -> int:
    """The number in FEDLOOM_FAULT_SEED, by default today's date (UTC) as YYYYMMDD."""
    return int(os.environ.get(VARIABLE) or datetime.now(UTC).strftime("%Y%m%d"))
