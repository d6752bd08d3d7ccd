"""Whole numbers that others write as text."""

_MAX_DIGITS = 18


def read_number(text: str) -> int | None:
    """Parse a whole number, such as a header's. Returns None unless it is one that a big-integer column can hold."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
