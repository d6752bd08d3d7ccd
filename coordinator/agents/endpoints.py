"""Endpoints for tokens, enrolment and agents."""

from fastapi import APIRouter
from sqlalchemy import delete, select

from coordinator.agents import service
from coordinator.database.tables import AgentRow, EnrollmentTokenRow, TaskRow
from coordinator.errors import NotFound
from coordinator.web.authentication import AgentDep, OperatorDep
from coordinator.web.deps import Cursor, Limit, Now, ReadSession, ServicesDep, WriteSession
from coordinator.web.paging import fetch_page
from shared.states import TaskState
from shared.wire.agents import AgentView
from shared.wire.base import Page
from shared.wire.enrollments import (
    EnrollmentReply,
    EnrollmentRequest,
    SecretReply,
    SecretRequest,
    TokenCreate,
    TokenCreated,
    TokenView,
)

router = APIRouter(prefix="/v1", tags=["agents"])


@router.post("/tokens", status_code=201)
async def create_token(body: TokenCreate, session: WriteSession, now: Now, _: OperatorDep) -> TokenCreated:
    """Make a one-time enrolment token; only this reply shows it."""
    return await service.create_token(session, now, body)


@router.get("/tokens")
async def list_tokens(
    session: ReadSession, _: OperatorDep, limit: Limit = 100, cursor: Cursor = None
) -> Page[TokenView]:
    """Enrolment tokens, newest first, without their secrets."""
    rows, after = await fetch_page(
        session, select(EnrollmentTokenRow), EnrollmentTokenRow.id, str, cursor=cursor, limit=limit, newest_first=True
    )
    return Page(items=[TokenView.model_validate(row, from_attributes=True) for row in rows], next_cursor=after)


@router.delete("/tokens/{token_id}", status_code=204)
async def delete_token(token_id: str, session: WriteSession, _: OperatorDep) -> None:
    """Delete a token. Agents that enrolled with it stay."""
    deleted = await session.execute(
        delete(EnrollmentTokenRow).where(EnrollmentTokenRow.id == token_id).returning(EnrollmentTokenRow.id)
    )
    if deleted.first() is None:
        raise NotFound("token", token_id)


@router.post("/enrollments", status_code=201)
async def enroll(body: EnrollmentRequest, session: WriteSession, now: Now, services: ServicesDep) -> EnrollmentReply:
    """Turn a one-time token into an agent's identity."""
    services.notifiers.after_commit(session)
    return await service.enroll(session, now, body)


@router.post("/agents/me/secret")
async def rotate_secret(session: WriteSession, agent: AgentDep, body: SecretRequest) -> SecretReply:
    """Replace the calling agent's secret; the old one is void."""
    return await service.rotate_secret(session, agent.id, body)


@router.get("/agents")
async def list_agents(
    session: ReadSession, services: ServicesDep, _: OperatorDep, limit: Limit = 100, cursor: Cursor = None
) -> Page[AgentView]:
    """Registered agents in the order of their enrolment."""
    rows, after = await fetch_page(session, select(AgentRow), AgentRow.id, str, cursor=cursor, limit=limit)
    leased = select(TaskRow.agent_id, TaskRow.id).where(
        TaskRow.agent_id.in_([row.id for row in rows]), TaskRow.state == TaskState.LEASED
    )
    current = dict((await session.execute(leased)).all())
    return Page(items=[_view(row, services, current.get(row.id)) for row in rows], next_cursor=after)


@router.get("/agents/{id_or_name}")
async def show_agent(id_or_name: str, session: ReadSession, services: ServicesDep, _: OperatorDep) -> AgentView:
    """One agent."""
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
    seen = max(filter(None, (row.last_seen_at, services.last_seen.get(row.id))), default=None)
    return AgentView(
        id=row.id,
        name=row.name,
        labels=row.labels,
        state=row.state,
        version=row.version,
        created_at=row.created_at,
        last_seen_at=seen,
        current_task_id=current_task_id,
    )
