"""What is run, and what came of it."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Program:
    """An answer and its tests, in a process each.

    Args:
        answer: what the model wrote, as a whole module.
        tests: what must run to its end; it calls the answer.
        names: what the tests take from the answer, such as the function's name.
        support: runs before the tests in their process: imports, and functions that the data set itself gives.
        prelude: runs before the answer in its process: imports.
        libraries: what may be imported beside the standard library, by the names of import.
        seconds: wall clock for answer and tests, from when both processes have started.
    """

    answer: str
    tests: str
    names: tuple[str, ...]
    support: str = ""
    prelude: str = ""
    libraries: tuple[str, ...] = ()
    seconds: float = 10.0


@dataclass(frozen=True)
class WholeProgram:
    """A program that holds answer and tests in one process, for sets that are published so.

    Such an answer shares its process with the tests, so one that was written to deceive them can. One that merely
    ends early does not pass.

    Args:
        program: a whole module.
        libraries: what may be imported beside the standard library.
        seconds: wall clock.
    """

    program: str
    libraries: tuple[str, ...] = ()
    seconds: float = 120.0


class Kind(StrEnum):
    """What came of a program. A harness error is no failure of the model: the item has no result."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    HARNESS_ERROR = "harness error"


@dataclass(frozen=True)
class Result:
    """What came of a program.

    Args:
        kind: see ``Kind``.
        detail: the exception or the reason, in one line; empty if it passed.
        output: the beginning of what the answer printed.
        seconds: wall clock of answer and tests.
        is_isolated: whether it ran in bubblewrap.
    """

    kind: Kind
    detail: str = ""
    output: str = ""
    seconds: float = 0.0
    is_isolated: bool = True
