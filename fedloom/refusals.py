"""The error of each problem that a coordinator reports."""

from fedloom.errors import Conflict, Forbidden, IllegalMove, Invalid, NotFound, NotKept, Refused, Unauthenticated
from shared.wire.problems import Problem, ProblemType

_BY_TYPE: dict[str, type[Refused]] = {
    ProblemType.UNAUTHENTICATED: Unauthenticated,
    ProblemType.FORBIDDEN: Forbidden,
    ProblemType.AGENT_REVOKED: Forbidden,
    ProblemType.NOT_FOUND: NotFound,
    ProblemType.INVALID: Invalid,
    ProblemType.ILLEGAL_MOVE: IllegalMove,
    ProblemType.NOT_KEPT: NotKept,
    ProblemType.CONFLICT: Conflict,
}


def refused(problem: Problem) -> Refused:
    """The error for a problem, by the problem's type."""
    return _BY_TYPE.get(problem.kind, Refused)(problem)
