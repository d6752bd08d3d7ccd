"""Authentication: the caller of a request, by the key or secret in its Authorization header.

``web.routes`` finds the caller and checks the role before the body is read; the dependencies here hand the caller on.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from sqlalchemy import select

from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import AgentRow, OperatorKeyRow
from coordinator.errors import AgentRevoked, Forbidden, Unauthenticated
from coordinator.services import Services
from coordinator.web.limits.admission import Admission
from shared.credentials import AGENT_PREFIX, OPERATOR_PREFIX, hash_secret
from shared.states import AgentState


@dataclass(frozen=True)
class Operator:
    """A caller with an operator's key."""

    key_id: str


@dataclass(frozen=True)
class Agent:
    """A caller with an agent's secret."""

    id: str
    name: str


Caller = Operator | Agent

_OPERATORS = Prepared(select(OperatorKeyRow.id).where(OperatorKeyRow.key_hash == given("digest")))
_AGENTS = Prepared(select(AgentRow.id, AgentRow.name, AgentRow.state).where(AgentRow.secret_hash == given("digest")))

REFUSALS = (Unauthenticated, AgentRevoked)
"""The errors of a caller who is not known."""


async def identify(services: Services, admission: Admission, header: str) -> Caller:
    """The caller with an Authorization header. Raises Unauthenticated and AgentRevoked."""
    scheme, _, rest = header.partition(" ")
    secret = rest.strip()  # RFC 9110 allows several spaces
    if not header:
        raise Unauthenticated("the request has no key; send one as `Authorization: Bearer KEY`")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated("the Authorization header is malformed; its form is `Authorization: Bearer KEY`")
    if secret.startswith((OPERATOR_PREFIX, AGENT_PREFIX)):
        digest = hash_secret(secret)
        async with admission.lookup(digest):
            caller = await _look_up(services, digest, is_operator=secret.startswith(OPERATOR_PREFIX))
        if caller is not None:
            admission.note_valid(digest)
            return caller
    raise Unauthenticated("the key is unknown to this coordinator; check the key and the coordinator's URL")


async def _look_up(services: Services, digest: str, *, is_operator: bool) -> Caller | None:
    """The caller whose key has a digest; None if there is none. Raises AgentRevoked."""
    if is_operator:
        for (key_id,) in await services.database.ask(_OPERATORS, digest=digest):
            return Operator(key_id)
        return None
    for agent_id, name, state in await services.database.ask(_AGENTS, digest=digest):
        if state is not AgentState.ACTIVE:
            raise AgentRevoked(name)
        services.last_seen[agent_id] = services.clock.now()
        return Agent(agent_id, name)
    return None


def _check_any(_caller: Caller) -> None:
    """Accept every caller with a key."""


def _check_operator(caller: Caller) -> None:
    if not isinstance(caller, Operator):
        message = "this request needs an operator key"
        raise Forbidden(message)


def _check_agent(caller: Caller) -> None:
    if not isinstance(caller, Agent):
        message = "this request needs an agent's secret"
        raise Forbidden(message)


async def _caller(request: Request) -> Caller:
    caller = request.state.caller
    assert isinstance(caller, Operator | Agent)
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]


async def _operator(caller: CallerDep) -> Operator:
    assert isinstance(caller, Operator)
    return caller


async def _agent(caller: CallerDep) -> Agent:
    assert isinstance(caller, Agent)
    return caller


OperatorDep = Annotated[Operator, Depends(_operator)]
AgentDep = Annotated[Agent, Depends(_agent)]

ROLES: Mapping[Any, Callable[[Caller], None]] = {
    _operator: _check_operator,
    _agent: _check_agent,
    _caller: _check_any,
}
"""The check of a caller's role, by the dependency that an endpoint declares, the strictest first. Each raises
Forbidden."""


def declared_role(dependant: Dependant) -> Any:
    """The dependency in ROLES that an endpoint declares, the strictest of several; None if it asks for no key."""
    found = set(calls(dependant))
    return next((role for role in ROLES if role in found), None)


def calls(dependant: Dependant) -> Iterator[Any]:
    """Yield the functions that an endpoint depends on, with those that they depend on."""
    for each in dependant.dependencies:
        yield each.call
        yield from calls(each)
