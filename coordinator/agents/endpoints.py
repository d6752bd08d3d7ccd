"""Endpoints for tokens, enrolment and agents."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlalchemy import delete, select

from coordinator import presence
from coordinator.agents import service
from coordinator.database.tables import AgentRow, EnrollmentTokenRow, TaskRow
from coordinator.errors import IllegalMove, NameTaken, NotFound, RoundOver, SecretRefused, TokenRefused
from coordinator.tasks.owners import benchmark_offers, gains, held_updates, owners_word
from coordinator.tasks.owners.own_campaigns import own_campaigns
from coordinator.web.authentication import AgentDep, OperatorDep
from coordinator.web.deps import Cursor, Limit, Now, ReadSession, ServicesDep, WriteSession
from coordinator.web.filters import Labels, NameFilter, Since, Until, equal, id_between, labelled
from coordinator.web.limits.bodies import takes
from coordinator.web.paging import fetch_page
from coordinator.web.reference.refusals import refuses
from coordinator.web.routes import BoundedRoute
from shared.states import AgentState, TaskState, TokenState
from shared.wire.agents import AgentView, OwnCampaigns, PartRequest, ReleaseReply
from shared.wire.base import SHA256_PATTERN, Page
from shared.wire.benchmarks import BenchmarkOffer
from shared.wire.enrollments import (
    EnrollmentReply,
    EnrollmentRequest,
    SecretReply,
    SecretRequest,
    TokenCreate,
    TokenCreated,
    TokenView,
)
from shared.wire.gains import GainRequest

router = APIRouter(prefix="/v1", tags=["agents"], route_class=BoundedRoute)


@router.post("/tokens", status_code=201)
async def create_token(body: TokenCreate, session: WriteSession, now: Now, _: OperatorDep) -> TokenCreated:
    """Make a one-time enrolment token; only this reply shows it."""
    return await service.create_token(session, now, body)


@router.get("/tokens")
async def list_tokens(
    session: ReadSession,
    now: Now,
    _: OperatorDep,
    labels: Labels,
    state: Annotated[TokenState | None, Query(description="Only tokens in this state.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[TokenView]:
    """Enrolment tokens, newest first, without their secrets."""
    query, key = select(EnrollmentTokenRow), EnrollmentTokenRow.id
    query = labelled(id_between(query, key, since, until), EnrollmentTokenRow.labels, labels)
    if state is not None:
        query = query.where(service.token_is(state, now))
    rows, after = await fetch_page(session, query, key, "tokens", cursor=cursor, limit=limit, newest_first=True)
    return Page(items=[TokenView.model_validate(row, from_attributes=True) for row in rows], next_cursor=after)


@router.delete("/tokens/{token_id}", status_code=204)
async def delete_token(token_id: str, session: WriteSession, _: OperatorDep) -> None:
    """Delete a token. Agents that enrolled with it stay."""
    deleted = await session.execute(
        delete(EnrollmentTokenRow).where(EnrollmentTokenRow.id == token_id).returning(EnrollmentTokenRow.id)
    )
    if deleted.first() is None:
        raise NotFound("token", token_id)


async def _enrolling(request: Request) -> AsyncIterator[None]:
    async with request.app.state.admission.enrolling:
        yield


@router.post("/enrollments", status_code=201, responses=refuses(TokenRefused, NameTaken, SecretRefused))
@takes(4 << 10)
async def enroll(
    _: Annotated[None, Depends(_enrolling, scope="function")],  # before the session: who waits holds no connection
    body: EnrollmentRequest,
    session: WriteSession,
    now: Now,
    services: ServicesDep,
) -> EnrollmentReply:
    """Turn a one-time token into an agent's identity."""
    services.notifiers.after_commit(session)
    keys = await services.signer.keys(session)
    return await service.enroll(session, now, keys.public, body)


@router.post("/agents/me/secret", responses=refuses(SecretRefused))
@takes(4 << 10)
async def rotate_secret(session: WriteSession, agent: AgentDep, body: SecretRequest) -> SecretReply:
    """Replace the calling agent's secret; the old one is void."""
    return await service.rotate_secret(session, agent.id, body)


@router.get("/agents/me/campaigns")
async def list_own_campaigns(services: ServicesDep, agent: AgentDep) -> OwnCampaigns:
    """The calling agent's campaigns, without anything of other agents: those that are not over, then the latest."""
    return await own_campaigns(services.database, agent.id)


@router.put("/agents/me/campaigns/{campaign_id}", status_code=204, responses=refuses(NotFound, IllegalMove))
@takes(4 << 10)
async def set_own_part(
    campaign_id: Annotated[str, Path(description="Id of a campaign that the agent was invited to.")],
    body: PartRequest,
    services: ServicesDep,
    agent: AgentDep,
) -> None:
    """Take part in a campaign, pause, or leave it, as the owner of the calling agent says.

    An agent that pauses or leaves loses its tasks; one that takes part prepares first, unless it has.
    """
    await owners_word.set_part(services, campaign_id, agent.id, body.part)


@router.put("/agents/me/campaigns/{campaign_id}/benchmarks", status_code=204, responses=refuses(NotFound, IllegalMove))
@takes(64 << 10)
async def offer_benchmarks(
    campaign_id: Annotated[str, Path(description="Id of a campaign that the agent was invited to.")],
    body: BenchmarkOffer,
    services: ServicesDep,
    agent: AgentDep,
) -> None:
    """Say which of the campaign's benchmarks the calling agent runs, in place of what it said before."""
    await benchmark_offers.take(services, campaign_id, agent.id, body)


@router.put("/agents/me/campaigns/{campaign_id}/gains/{sha256}", status_code=204, responses=refuses(NotFound))
@takes(4 << 10)
async def tell_gain(
    campaign_id: Annotated[str, Path(description="Id of a campaign in which the agent was a client.")],
    sha256: Annotated[str, Path(pattern=SHA256_PATTERN, description="Digest of an adapter of the campaign.")],
    body: GainRequest,
    services: ServicesDep,
    agent: AgentDep,
) -> None:
    """Tell what the owner of the calling agent gains by an adapter: three held-out losses on its own rows.

    The latest ones count. Those of an adapter that is rolled back are deleted with it.
    """
    await gains.take(services, campaign_id, agent.id, sha256, body)


@router.put("/agents/me/tasks/{task_id}/release", responses=refuses(NotFound, RoundOver))
async def release_update(
    task_id: Annotated[str, Path(description="Id of a task of the calling agent whose update is held.")],
    services: ServicesDep,
    agent: AgentDep,
) -> ReleaseReply:
    """Let a held update go, as the owner of the calling agent says: the agent gets the task again, and sends it.

    Repeating the request changes nothing, whether the update is held, on its way or there. It is refused once the
    update can count nowhere.
    """
    return ReleaseReply(state=await held_updates.let_go(services, agent.id, task_id))


@router.get("/agents")
async def list_agents(
    session: ReadSession,
    services: ServicesDep,
    _: OperatorDep,
    labels: Labels,
    state: Annotated[AgentState | None, Query(description="Only agents in this state.")] = None,
    name: NameFilter = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[AgentView]:
    """Registered agents in the order of their enrolment. *since* and *until* bound the time of enrolment."""
    query = equal(select(AgentRow), (AgentRow.state, state), (AgentRow.name, name))
    query = labelled(id_between(query, AgentRow.id, since, until), AgentRow.labels, labels)
    rows, after = await fetch_page(session, query, AgentRow.id, "agents", cursor=cursor, limit=limit)
    leased = select(TaskRow.agent_id, TaskRow.id).where(
        TaskRow.agent_id.in_([row.id for row in rows]), TaskRow.state == TaskState.LEASED
    )
    current = dict((await session.execute(leased)).all())
    return Page(items=[_view(row, services, current.get(row.id)) for row in rows], next_cursor=after)


@router.get("/agents/{id_or_name}")
async def show_agent(id_or_name: str, session: ReadSession, services: ServicesDep, _: OperatorDep) -> AgentView:
    """One agent, with the time of its last request and the task that it works on."""
    row = await service.find_agent(session, id_or_name)
    leased = select(TaskRow.id).where(TaskRow.agent_id == row.id, TaskRow.state == TaskState.LEASED).limit(1)
    return _view(row, services, await session.scalar(leased))


@router.post("/agents/{id_or_name}/revoke")
async def revoke_agent(
    id_or_name: str, session: WriteSession, now: Now, services: ServicesDep, _: OperatorDep
) -> AgentView:
    """Revoke an agent. Other agents are unaffected, except that they may get its tasks."""
    revoked = await service.revoke(session, now, id_or_name)
    services.notifiers.after_commit(session, agent_ids=[revoked.id])  # it may be waiting for work
    return _view(revoked, services, None)


def _view(row: AgentRow, services: ServicesDep, current_task_id: str | None) -> AgentView:
    return AgentView(
        id=row.id,
        name=row.name,
        labels=row.labels,
        state=row.state,
        version=row.version,
        created_at=row.created_at,
        last_seen_at=presence.last_seen(services, row.id, row.last_seen_at),
        away_since=presence.away_since(services, row.id, row.state, row.last_seen_at),
        current_task_id=current_task_id,
    )
