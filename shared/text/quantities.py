"""Durations and sizes for people."""

import math

_LONGEST_S = 1000 * 365.25 * 86400


def duration(seconds: float) -> str:
    """A duration with one unit; "?" for what is not a number."""
    if not seconds < math.inf:
        return "?"
    seconds = max(0.0, seconds)
    if seconds > _LONGEST_S:
        return "over 1000 years"
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def bounded(number: int) -> int:
    """A number that others reported, within 64 bits: fit for arithmetic and for a column."""
    from shared.bounds import MAX_INT  # pydantic is slow to import, and most commands need none of it here

    return max(-MAX_INT - 1, min(number, MAX_INT))


def size(n_bytes: int) -> str:
    """A number of bytes with a decimal unit (kB, MB, …)."""
    value = float(bounded(n_bytes))
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} EB"
