"""Numbers of the owner's data that remember how the file spells them: 0.10 is not "0.1" as text."""

from typing import Any

import numpy as np


class SpelledNumber(float):
    """A number with its spelling in the file, such as "0.10" or "1e3"."""

    spelling: str

    def __new__(cls, spelling: str) -> "SpelledNumber":
        number = super().__new__(cls, spelling)
        number.spelling = spelling
        return number


def parse_int(spelling: str) -> int | SpelledNumber:
    """Read a whole number of JSON. Raises ValueError beyond 4,300 digits."""
    return SpelledNumber(spelling) if spelling == "-0" else int(spelling)


def of_single_precision(number: float) -> SpelledNumber:
    """Return a number of 32 or 16 bits with its shortest spelling: 0.1, not 0.10000000149011612."""
    return SpelledNumber(str(np.float32(number)))


def spelling_of(number: Any) -> str:
    """Return a number, or true or false, as text: as the file spells it, or as JSON does."""
    if isinstance(number, bool):
        return "true" if number else "false"
    return number.spelling if isinstance(number, SpelledNumber) else str(number)
