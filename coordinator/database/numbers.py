"""Numbers that the database's columns can hold."""

MAX_INT = (1 << 31) - 1
"""Largest number of PostgreSQL's integer columns."""
_MAX_DIGITS = 18


def read_number(text: str) -> int | None:
    """A whole number from text, such as a header; None unless it is one that a big integer column can hold."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
