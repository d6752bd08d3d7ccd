"""The owner's own metric: a function in a file of its own, which runs here and leaves nowhere."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.errors import InvalidOption
from fedloom.own_code import OwnCodeFailed, attribute_of, own_code

if TYPE_CHECKING:
    from agent.orders.measure import MeasuredRow

_LARGEST = 1e100
"""Sums of values beyond it may be no numbers."""


@dataclass(frozen=True)
class OwnMetric:
    """A function of the question, the expected answer and the model's answer. More is better.

    Args:
        name: of the function.
        function: returns a number, or true or false.
    """

    name: str
    function: Callable[[str, str, str], Any]

    def of(self, row: "MeasuredRow") -> float:
        """The value of one row that was answered. Raises InvalidOption if the function gives none."""
        assert row.answer is not None
        at = f"at held-out row {row.place + 1}"
        try:
            with own_code():
                value = self.function(row.question, row.expected, row.answer)
        except Exception as error:  # whatever an owner's function raises; its text may quote a row
            raised = error.__cause__ if isinstance(error, OwnCodeFailed) else error
            raise InvalidOption(f"--metric: {self.name} raised {type(raised).__name__} {at}") from error
        try:
            number = math.nan if isinstance(value, str | bytes) else float(value)
        except Exception as error:
            raise InvalidOption(f"--metric: {self.name} gave no number but {type(value).__name__} {at}") from error
        if not abs(number) <= _LARGEST:
            shown = type(value).__name__ if isinstance(value, str | bytes) else f"{number:g}"
            raise InvalidOption(f"--metric: {self.name} gave {shown} {at}, and not a number up to {_LARGEST:g}")
        return number

    def values(self, rows: "Sequence[MeasuredRow]") -> list[float]:
        """The values of the rows that were answered."""
        return [self.of(row) for row in rows if row.answer is not None]


def read_metric(named: str) -> OwnMetric:
    """The metric that FILE.py:FUNCTION names. Raises InvalidOption."""
    file, colon, name = named.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not name.isidentifier():
        raise InvalidOption("--metric: name a function in a file, as FILE.py:FUNCTION")
    try:
        function = attribute_of(path, name)
    except OwnCodeFailed as error:
        raise InvalidOption(f"--metric: {error}") from error
    if not callable(function):
        raise InvalidOption(f"--metric: {path} has no function {name}")
    return OwnMetric(name, function)
