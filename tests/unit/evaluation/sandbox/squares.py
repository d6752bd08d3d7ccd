"""A problem whose right answer is known: square a number."""

from typing import Any

from fedloom.evaluation.sandbox.program import Program

RIGHT = "def square(x):\n    return x * x\n"
TESTS = "assert square(2) == 4\nassert square(7) == 49\n"


def program(answer: str, tests: str = TESTS, **options: Any) -> Program:
    return Program(answer, tests, ("square",), **{"seconds": 20.0, **options})


def attempt(code: str, tests: str, **options: Any) -> Program:
    """An answer that defines ``attempt``, and tests of what it gives back."""
    return Program(code, tests, ("attempt",), **{"seconds": 20.0, **options})
