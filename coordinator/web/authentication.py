"""Authentication: the caller of a request, by the key or secret in its Authorization header."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select

from coordinator.database.tables import AgentRow, OperatorKeyRow
from coordinator.errors import AgentRevoked, Forbidden, Unauthenticated
from coordinator.web.deps import Now, ServicesDep
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


async def _caller(request: Request, services: ServicesDep, now: Now) -> Caller:
    header = request.headers.get("Authorization", "")
    scheme, _, secret = header.partition(" ")
    if not header:
        raise Unauthenticated("the request has no key; send one as `Authorization: Bearer KEY`")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated("the Authorization header is malformed; its form is `Authorization: Bearer KEY`")
    digest = hash_secret(secret.strip())
    if secret.startswith(OPERATOR_PREFIX):
        query = select(OperatorKeyRow.id).where(OperatorKeyRow.key_hash == digest)
        for (key_id,) in await services.database.fetch(query):
            return Operator(key_id)
    elif secret.startswith(AGENT_PREFIX):
        agents = select(AgentRow.id, AgentRow.name, AgentRow.state).where(AgentRow.secret_hash == digest)
        for agent_id, name, state in await services.database.fetch(agents):
            if state is not AgentState.ACTIVE:
                raise AgentRevoked(name)
            services.last_seen[agent_id] = now
            return Agent(agent_id, name)
    raise Unauthenticated("the key is unknown to this coordinator; check the key and the coordinator's URL")


CallerDep = Annotated[Caller, Depends(_caller)]


async def _operator(caller: CallerDep) -> Operator:
    if not isinstance(caller, Operator):
        message = "this request needs an operator key"
        raise Forbidden(message)
    return caller


async def _agent(caller: CallerDep) -> Agent:
    if not isinstance(caller, Agent):
        message = "this request needs an agent's secret"
        raise Forbidden(message)
    return caller


OperatorDep = Annotated[Operator, Depends(_operator)]
AgentDep = Annotated[Agent, Depends(_agent)]
