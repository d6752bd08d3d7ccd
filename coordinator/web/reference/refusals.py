"""The problems that an endpoint may answer: those that follow from what it takes, and those that it declares."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fastapi.routing import APIRoute

from coordinator import errors
from coordinator.web.problems import TABLE
from coordinator.web.reference.roles import Role, roles_of
from shared.wire.problems import MEDIA_TYPE, ProblemType

P = ProblemType

KEY = "x-problem-types"
"""Extension of a response in the OpenAPI document: the types of problems that it may have."""

_DECLARED = "x-declared-problems"
"""Type and title of each problem that an endpoint declares, until they are described."""


class _Refusal(NamedTuple):
    status: int
    kind: ProblemType
    title: str


def refuses(*kinds: type[errors.CoordinatorError]) -> dict[int | str, dict[str, Any]]:
    """``responses`` of an endpoint that raises these errors, beside those that follow from what it takes."""
    found: dict[int | str, dict[str, Any]] = {}
    for status, problem, title in map(_refusal, kinds):
        found.setdefault(status, {_DECLARED: []})[_DECLARED].append([problem.value, title])
    return found


def add_refusals(operation: dict[str, Any], route: APIRoute, method: str) -> None:
    """Add all problems that an endpoint may answer to its operation in the OpenAPI document."""
    responses: dict[str, Any] = operation["responses"]
    declared = {int(status): each.pop(_DECLARED) for status, each in responses.items() if _DECLARED in each}
    if "422" in responses and "HTTPValidationError" in str(responses["422"]):
        del responses["422"]  # FastAPI's own, which no endpoint answers
    refusals = {*_implied(route, method)}
    refusals |= {_Refusal(status, P(kind), title) for status, each in declared.items() for kind, title in each}
    own = {status for status in responses if int(status) not in declared}  # replies that are no problems
    for status in sorted({each.status for each in refusals}):
        if str(status) not in own:
            responses[str(status)] = _response([each for each in refusals if each.status == status])
    operation["responses"] = dict(sorted(responses.items()))


def _response(refusals: Sequence[_Refusal]) -> dict[str, Any]:
    """The response of one status, with every title that its problems have at this endpoint."""
    titles: dict[ProblemType, list[str]] = {}
    for each in sorted(refusals):
        titles.setdefault(each.kind, []).append(each.title)
    described = "; ".join(f"`{kind.value}`: {' / '.join(own)}" for kind, own in titles.items())
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": described, KEY: [kind.value for kind in titles], "content": content}


def _implied(route: APIRoute, method: str) -> Iterable[_Refusal]:
    yield _refusal(errors.ProtocolNotServed)
    yield _Refusal(500, P.INTERNAL, "Internal error")
    yield _Refusal(503, P.UNAVAILABLE, "The service is not available")
    yield from _with_status(414)
    yield from _with_status(429)
    yield _refusal(errors.Invalid)  # parameters that the endpoint does not know
    roles = roles_of(route.dependant)
    if roles:
        yield from map(_refusal, (errors.Unauthenticated, errors.Forbidden))
    if Role.AGENT in roles:
        yield _refusal(errors.AgentRevoked)
    if "{" in route.path_format:
        yield _refusal(errors.NotFound)
    if method in ("POST", "PUT", "PATCH"):
        yield from _with_status(413)
    if route.body_field is not None:
        yield from _with_status(415)
    if method not in ("GET", "HEAD"):
        yield _refusal(errors.StorageFull)


def _refusal(error: type[errors.CoordinatorError]) -> _Refusal:
    return _Refusal(*TABLE[error])


def _with_status(status: int) -> Iterable[_Refusal]:
    return (_Refusal(*each) for each in TABLE.values() if each[0] == status)
