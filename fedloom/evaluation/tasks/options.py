"""What sets of questions with options share: which of the options a published answer names."""

from collections.abc import Sequence

from fedloom.evaluation.tasks.base import BadData

LETTERS = "ABCD"
_ENOUGH = 20
"""Among so many answers each option occurs, unless they are counted from 1."""


def letter_index(letter: object, place: str) -> int:
    """The index of a letter from A to D. Raises BadData, whose text says where."""
    if not isinstance(letter, str) or len(letter) != 1 or letter not in LETTERS:
        raise BadData(f"{place}: the answer is none of A, B, C and D")
    return LETTERS.index(letter)


def counted_from_zero(answers: Sequence[object], n_options: int, file: str) -> list[int]:
    """Answers that must be counted from 0, as they are.

    Raises BadData if one is no option, or if there are many and none is 0: then they are counted from 1.
    """
    numbers = _numbers(answers, file)
    if max(numbers) >= n_options or (len(numbers) >= _ENOUGH and 0 not in numbers):
        raise BadData(f"{file}: the answers are not 0 to {n_options - 1}; are they counted from 1?")
    return numbers


def counted_from_either(answers: Sequence[object], n_options: int, file: str) -> tuple[list[int], int]:
    """Answers counted from 0 or from 1, told by the whole file. Returns them counted from 0, and what they began at.

    Raises BadData if the file does not tell: neither a 0 nor the highest number occurs, or both do.
    """
    numbers = _numbers(answers, file)
    has_first, has_last = 0 in numbers, n_options in numbers
    if has_first == has_last or max(numbers) > n_options:
        reason = "both 0 and" if has_first else "neither 0 nor"
        raise BadData(
            f"{file}: the answers hold {reason} {n_options}, so it cannot be told whether they are counted from 0 or "
            "from 1; take the published file as it is"
        )
    begin = 0 if has_first else 1
    return [number - begin for number in numbers], begin


def _numbers(answers: Sequence[object], file: str) -> list[int]:
    numbers = []
    for row, answer in enumerate(answers, 1):
        if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
            raise BadData(f"{file}: row {row}: the answer is no number of an option; the answers of tests are hidden")
        numbers.append(answer)
    if not numbers:
        raise BadData(f"{file} has no rows")
    return numbers
