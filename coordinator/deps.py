"""What endpoints ask for: a session, the caller, the time, the services of the process."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from threadpoolctl import threadpool_limits

from coordinator.bells import Bells
from coordinator.clock import Clock
from coordinator.db import Database
from coordinator.errors import AgentRevoked, Forbidden, LeaseLost, Unauthenticated
from coordinator.settings import Settings
from coordinator.storage import Storage
from coordinator.tables import AgentRow, OperatorKeyRow
from shared.credentials import AGENT_PREFIX, OPERATOR_PREFIX, hash_secret
from shared.states import AgentState
from shared.wire.base import LEASE_HEADER

MAX_INT = (1 << 31) - 1
"""Largest number that PostgreSQL's integer columns hold."""
_MAX_DIGITS = 18
AT_ONCE = 4
"""Campaigns that one engine looks at, and that it aggregates, at the same time."""


def _aggregation_threads() -> ThreadPoolExecutor:
    """As many as there are aggregations at a time, each with one thread of linear algebra: small products gain nothing
    from more, lose tenfold where other work has the cores, and the sums would depend on how many there are."""
    limit = partial(threadpool_limits, limits=1, user_api="blas")
    return ThreadPoolExecutor(AT_ONCE, "aggregation", initializer=limit)


@dataclass
class Services:
    """What one process of the coordinator is made of. Dependencies are coroutines, for FastAPI runs others in threads.

    aggregations: where rounds are computed, apart from the threads that files are read and hashed in.
    """

    settings: Settings
    clock: Clock
    database: Database
    storage: Storage
    bells: Bells = field(default_factory=Bells)
    aggregations: ThreadPoolExecutor = field(default_factory=_aggregation_threads)
    seen: dict[str, datetime] = field(default_factory=dict)
    """When agents were last heard of; written to the database in batches."""

    async def close(self) -> None:
        """Let go of connections and threads."""
        self.aggregations.shutdown(wait=False)
        await self.database.close()


async def services(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


ServicesDep = Annotated[Services, Depends(services)]


async def _now(at: ServicesDep) -> datetime:
    return at.clock.now()


Now = Annotated[datetime, Depends(_now)]


async def _read_session(at: ServicesDep) -> AsyncIterator[AsyncSession]:
    async with at.database.read() as session:
        yield session


async def _write_session(request: Request, at: ServicesDep) -> AsyncIterator[AsyncSession]:
    async with at.database.write(request.scope["route"].name) as session:
        yield session


# scope="function": the transaction ends before the reply is sent, so a reply never tells of what may be rolled back
ReadSession = Annotated[AsyncSession, Depends(_read_session, scope="function")]
WriteSession = Annotated[AsyncSession, Depends(_write_session, scope="function")]


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


async def _caller(request: Request, at: ServicesDep, now: Now) -> Caller:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated
    digest = hash_secret(secret.strip())
    if secret.startswith(OPERATOR_PREFIX):
        for (key_id,) in await at.database.fetch(select(OperatorKeyRow.id).where(OperatorKeyRow.key_hash == digest)):
            return Operator(key_id)
    elif secret.startswith(AGENT_PREFIX):
        query = select(AgentRow.id, AgentRow.name, AgentRow.state).where(AgentRow.secret_hash == digest)
        for agent_id, name, state in await at.database.fetch(query):
            if state is not AgentState.ACTIVE:
                raise AgentRevoked(name)
            at.seen[agent_id] = now
            return Agent(agent_id, name)
    raise Unauthenticated


CallerDep = Annotated[Caller, Depends(_caller)]


async def _operator(caller: CallerDep) -> Operator:
    if not isinstance(caller, Operator):
        message = "this needs an operator's key"
        raise Forbidden(message)
    return caller


async def _agent(caller: CallerDep) -> Agent:
    if not isinstance(caller, Agent):
        message = "this needs an agent's secret"
        raise Forbidden(message)
    return caller


OperatorDep = Annotated[Operator, Depends(_operator)]
AgentDep = Annotated[Agent, Depends(_agent)]


@dataclass(frozen=True)
class LeaseClaim:
    """What a caller says to hold: a task's attempt and the hash of its token."""

    task_id: str
    agent_id: str
    attempt: int
    token_hash: str


def read_number(text: str) -> int | None:
    """A whole number in a header that fits the database's columns; None where it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


@dataclass(frozen=True)
class LeaseHolder:
    """An agent, and what its request says in the lease header."""

    agent_id: str
    header: str

    def claim_of(self, task_id: str) -> LeaseClaim:
        """The claim on a task. Raises LeaseLost where the header is missing or unreadable."""
        attempt, _, token = self.header.partition(".")
        number = read_number(attempt)
        if number is None or number > MAX_INT or not token:
            raise LeaseLost(task_id, -1)
        return LeaseClaim(task_id, self.agent_id, number, hash_secret(token))


def lease_holder(request: Request, agent: Agent) -> LeaseHolder:
    return LeaseHolder(agent.id, request.headers.get(LEASE_HEADER, ""))


def lease_claim(request: Request, agent: Agent, task_id: str) -> LeaseClaim:
    """The claim in a request's lease header. Raises LeaseLost where it is missing or unreadable."""
    return lease_holder(request, agent).claim_of(task_id)


Number = Annotated[int, Path(ge=0, le=MAX_INT)]
OptionalNumber = Annotated[int | None, Query(ge=0, le=MAX_INT)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=100)]
