"""What a judge's reply says: a rating from 1 to 10, or which of two answers is better."""

import re
from typing import Literal

_DOUBLE = re.compile(r"\[\[([0-9]+\.?[0-9]*)\]\]")
_SINGLE = re.compile(r"\[([0-9]+\.?[0-9]*)\]")
_WINNER = re.compile(r"\[\[([ABC])\]\]")
LOWEST, HIGHEST = 1.0, 10.0

Winner = Literal["A", "B", "tie"]
_WINNERS: dict[str, Winner] = {"A": "A", "B": "B", "C": "tie"}


def rating_of(reply: str) -> float | None:
    """The first ``[[n]]``, else the first ``[n]``; None if there is none, or it is not from 1 to 10.

    >>> rating_of("I think of [3] things. Rating: [[7.5]]"), rating_of("Rating: [11]"), rating_of("Very good!")
    (7.5, None, None)
    """
    found = _DOUBLE.search(reply) or _SINGLE.search(reply)
    if found is None:
        return None
    rating = float(found[1])
    return rating if LOWEST <= rating <= HIGHEST else None


def winner_of(reply: str) -> Winner | None:
    """The only one of ``[[A]]``, ``[[B]]`` and ``[[C]]`` that is in a reply; None if none is, or several are.

    FastChat takes A where both A and B are named, which favours whoever is first.

    >>> winner_of("Both are fine: [[C]]"), winner_of("[[A]], or rather [[B]]")
    ('tie', None)
    """
    found = set(_WINNER.findall(reply))
    return _WINNERS[found.pop()] if len(found) == 1 else None


def winner_of_both(as_given: Winner | None, swapped: Winner | None) -> Winner | None:
    """Whose answer is better when the judge was asked in both orders. Without one opinion in both it is a tie.

    Args:
        as_given: of the order A, B.
        swapped: of the order B, A, in which the letters change hands; None, as above, if it names no winner.
    """
    if as_given is None or swapped is None:
        return None
    other: Winner = {"A": "B", "B": "A", "tie": "tie"}[swapped]  # type: ignore[assignment]
    return as_given if as_given == other else "tie"
