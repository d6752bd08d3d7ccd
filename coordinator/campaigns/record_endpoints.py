"""Endpoints for the records of a campaign: rounds, tasks and metrics."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import select

from coordinator.campaigns import clients
from coordinator.database.tables import (
    AdapterRow,
    AgentRow,
    CampaignRow,
    GainRow,
    MetricRow,
    ParticipantRow,
    RoundRow,
    TaskRow,
)
from coordinator.web.authentication import OperatorDep
from coordinator.web.campaign_path import CampaignId
from coordinator.web.deps import Cursor, Limit, ReadSession, RoundFilter, ServicesDep
from coordinator.web.filters import Since, Until, equal, id_between
from coordinator.web.paging import fetch_page
from coordinator.web.routes import BoundedRoute
from shared.bounds import MAX_COUNT
from shared.campaign import measured
from shared.metrics import Metric
from shared.states import RoundState, TaskKind, TaskState
from shared.wire.base import Page
from shared.wire.campaigns import ClientView, MetricScope, MetricView, RoundView, TaskView
from shared.wire.gains import GainView

router = APIRouter(prefix="/v1/campaigns/{campaign}", tags=["campaigns"], route_class=BoundedRoute)

AgentFilter = Annotated[str | None, Query(max_length=100, description="Only of the agent with this id or name.")]


@router.get("/rounds")
async def list_rounds(
    campaign_id: CampaignId,
    session: ReadSession,
    _: OperatorDep,
    state: Annotated[RoundState | None, Query(description="Only rounds in this state.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[RoundView]:
    """The campaign's rounds in order."""
    query = equal(select(RoundRow).where(RoundRow.campaign_id == campaign_id), (RoundRow.state, state))
    rows, after = await fetch_page(session, query, RoundRow.number, f"{campaign_id}/rounds", cursor=cursor, limit=limit)
    adapters = await session.scalars(
        select(AdapterRow).where(
            AdapterRow.campaign_id == campaign_id, AdapterRow.number.in_([row.number for row in rows])
        )
    )
    contributors = {row.number: [each["client_number"] for each in row.contributions] for row in adapters.all()}
    views = [
        RoundView(
            number=row.number,
            state=row.state,
            opened_at=row.opened_at,
            deadline_at=row.deadline_at,
            closed_at=row.closed_at,
            learning_rate=row.learning_rate,
            eligible=row.eligible,
            sampled=row.sampled,
            contributors=contributors.get(row.number, []),
        )
        for row in rows
    ]
    return Page(items=views, next_cursor=after)


@router.get("/tasks")
async def list_tasks(
    campaign_id: CampaignId,
    session: ReadSession,
    _: OperatorDep,
    state: Annotated[TaskState | None, Query(description="Only tasks in this state.")] = None,
    kind: Annotated[TaskKind | None, Query(description="Only tasks of this kind.")] = None,
    round: RoundFilter = None,  # noqa: A002
    agent: AgentFilter = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[TaskView]:
    """The campaign's tasks in the order of their creation, with their live progress."""
    query = select(TaskRow).where(TaskRow.campaign_id == campaign_id)
    query = equal(query, (TaskRow.state, state), (TaskRow.kind, kind), (TaskRow.round, round))
    query = id_between(query, TaskRow.id, since, until)
    if agent is not None:
        named = select(AgentRow.id).where((AgentRow.id == agent) | (AgentRow.name == agent))
        query = query.where(TaskRow.agent_id.in_(named))
    rows, after = await fetch_page(session, query, TaskRow.id, f"{campaign_id}/tasks", cursor=cursor, limit=limit)
    agents = await session.execute(
        select(AgentRow.id, AgentRow.name).where(AgentRow.id.in_({row.agent_id for row in rows}))
    )
    names = dict(agents.all())
    views = [
        TaskView.model_validate(
            {**{field: getattr(row, field, None) for field in TaskView.model_fields}, "agent_name": names[row.agent_id]}
        )
        for row in rows
    ]
    return Page(items=views, next_cursor=after)


@router.get("/metrics")
async def list_metrics(
    campaign_id: CampaignId,
    session: ReadSession,
    _: OperatorDep,
    name: Annotated[str | None, Query(max_length=100, description="Only the metric with this name.")] = None,
    round: RoundFilter = None,  # noqa: A002
    scope: Annotated[
        MetricScope | None, Query(description="Only metrics of whole rounds, or only those of clients.")
    ] = None,
    client: Annotated[int | None, Query(ge=0, le=MAX_COUNT, description="Only of the client with this number.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Page[MetricView]:
    """The campaign's metrics in the order in which they were recorded."""
    campaign = await session.get_one(CampaignRow, campaign_id)
    query = select(MetricRow).where(MetricRow.campaign_id == campaign_id)
    query = equal(query, (MetricRow.name, name), (MetricRow.round, round), (MetricRow.client_number, client))
    query = id_between(query, MetricRow.id, since, until)
    if scope is not None:
        of_round = MetricRow.client_number.is_(None)
        query = query.where(of_round if scope is MetricScope.ROUND else ~of_round)
    listing = f"{campaign_id}/metrics"
    rows, after = await fetch_page(session, query, MetricRow.id, listing, cursor=cursor, limit=limit)
    known = metrics_of(campaign)
    views = [
        MetricView(
            round=row.round,
            name=row.name,
            value=row.value,
            unit=known[row.name].unit if row.name in known else "",
            client_number=row.client_number,
            agent_name=row.agent_name,
            n_clients=row.n_clients,
            of_clients=row.of_clients,
            at=row.at,
        )
        for row in rows
    ]
    return Page(items=views, next_cursor=after)


@router.get("/clients")
async def list_clients(
    campaign_id: CampaignId,
    session: ReadSession,
    services: ServicesDep,
    _: OperatorDep,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ClientView]:
    """The campaign's clients by number: the weight of their last updates, their losses now and at the start."""
    campaign = await session.get_one(CampaignRow, campaign_id)
    query = select(ParticipantRow).where(
        ParticipantRow.campaign_id == campaign_id, ParticipantRow.client_number.is_not(None)
    )
    key, listing = ParticipantRow.client_number, f"{campaign_id}/clients"
    rows, after = await fetch_page(session, query, key, listing, cursor=cursor, limit=limit)
    views = await clients.views_of(session, services, campaign, rows, metrics_of(campaign))
    return Page(items=views, next_cursor=after)


@router.get("/gains")
async def list_gains(
    campaign_id: CampaignId,
    session: ReadSession,
    _: OperatorDep,
    round: RoundFilter = None,  # noqa: A002
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Page[GainView]:
    """What owners gain by the campaign's adapters, by their own word, in the order in which they first told it.

    Only owners whose settings allow it tell anything: the held-out losses, on their own rows, of the bare base model,
    of a model that they trained alone for as many rounds and steps, and of the adapter.
    """
    query = equal(select(GainRow).where(GainRow.campaign_id == campaign_id), (GainRow.number, round))
    rows, after = await fetch_page(session, query, GainRow.id, f"{campaign_id}/gains", cursor=cursor, limit=limit)
    of_campaign = select(ParticipantRow).where(
        ParticipantRow.campaign_id == campaign_id, ParticipantRow.agent_id.in_({row.agent_id for row in rows})
    )
    participants = {each.agent_id: each for each in (await session.scalars(of_campaign)).all()}
    views = [
        GainView(
            round=row.number,
            agent_name=participants[row.agent_id].agent_name,
            client_number=participants[row.agent_id].client_number,
            base=row.base,
            alone=row.alone,
            adapter=row.adapter,
            at=row.at,
        )
        for row in rows
    ]
    return Page(items=views, next_cursor=after)


def metrics_of(campaign: CampaignRow) -> Mapping[str, Metric]:
    """What the campaign's metrics are, by name: those that all campaigns have if its kind is no longer installed."""
    return measured.metrics_of(campaign.spec.evaluation, campaign.spec.kind)
