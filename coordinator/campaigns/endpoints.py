"""Endpoints for campaigns, their rounds, tasks, metrics and adapters."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Header
from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.campaigns import chains, rollback, service
from coordinator.database.tables import AdapterRow, AgentRow, BlobUseRow, CampaignRow, MetricRow, RoundRow, TaskRow
from coordinator.engine import participants
from coordinator.errors import NotFound
from coordinator.web.authentication import OperatorDep
from coordinator.web.deps import Cursor, Limit, Number, OptionalNumber, ReadSession, ServicesDep, WriteSession
from coordinator.web.paging import fetch_page
from shared import kinds, metrics
from shared.campaign.spec import CampaignSpec
from shared.metrics import Metric, Weight
from shared.plugins import PluginUnavailable
from shared.states import BlobKind, TaskState
from shared.wire.adapters import AdapterView
from shared.wire.base import BlobRef, Page
from shared.wire.campaigns import (
    CampaignDetail,
    CampaignView,
    MetricView,
    ParticipantView,
    RollbackRequest,
    RoundView,
    TaskView,
)

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])

IdempotencyKey = Annotated[str | None, Header(max_length=100)]


@router.post("", status_code=201)
async def create_campaign(
    spec: CampaignSpec,
    session: WriteSession,
    services: ServicesDep,
    _: OperatorDep,
    idempotency_key: IdempotencyKey = None,
) -> CampaignDetail:
    """Create a campaign. The same body with the same Idempotency-Key returns the same campaign."""
    return await _detail(session, await service.create(session, services, spec, idempotency_key))


@router.get("")
async def list_campaigns(
    session: ReadSession, _: OperatorDep, name: str | None = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[CampaignView]:
    """Campaigns, newest first."""
    query = select(CampaignRow)
    if name is not None:
        query = query.where(CampaignRow.name == name)
    rows, after = await fetch_page(session, query, CampaignRow.id, str, cursor=cursor, limit=limit, newest_first=True)
    return Page(items=[_view(row) for row in rows], next_cursor=after)


@router.get("/{campaign_id}")
async def show_campaign(campaign_id: str, session: ReadSession, _: OperatorDep) -> CampaignDetail:
    """One campaign with its file and its participants."""
    return await _detail(session, await _get(session, campaign_id))


@router.post("/{campaign_id}/pause")
async def pause_campaign(
    campaign_id: str, session: WriteSession, services: ServicesDep, _: OperatorDep
) -> CampaignView:
    """Stop granting leases; tasks under way may finish."""
    return _view(await service.pause(session, services, campaign_id))


@router.post("/{campaign_id}/resume")
async def resume_campaign(
    campaign_id: str, session: WriteSession, services: ServicesDep, _: OperatorDep
) -> CampaignView:
    """Continue a paused campaign."""
    return _view(await service.resume(session, services, campaign_id))


@router.post("/{campaign_id}/cancel")
async def cancel_campaign(
    campaign_id: str, session: WriteSession, services: ServicesDep, _: OperatorDep
) -> CampaignView:
    """End a campaign early; its adapters stay."""
    return _view(await service.cancel(session, services, campaign_id))


@router.post("/{campaign_id}/rollback")
async def roll_back_campaign(
    campaign_id: str, body: RollbackRequest, services: ServicesDep, _: OperatorDep
) -> CampaignView:
    """Return to the state after a round, and leave the campaign paused."""
    return _view(await rollback.roll_back(services, campaign_id, body.round))


@router.get("/{campaign_id}/rounds")
async def list_rounds(
    campaign_id: str, session: ReadSession, _: OperatorDep, limit: Limit = 100, cursor: Cursor = None
) -> Page[RoundView]:
    """The campaign's rounds in order."""
    await _get(session, campaign_id)
    query = select(RoundRow).where(RoundRow.campaign_id == campaign_id)
    rows, after = await fetch_page(session, query, RoundRow.number, int, cursor=cursor, limit=limit)
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


@router.get("/{campaign_id}/tasks")
async def list_tasks(
    campaign_id: str,
    session: ReadSession,
    _: OperatorDep,
    state: TaskState | None = None,
    round: OptionalNumber = None,  # noqa: A002
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[TaskView]:
    """The campaign's tasks in the order of their creation, with their live progress."""
    await _get(session, campaign_id)
    query = select(TaskRow).where(TaskRow.campaign_id == campaign_id)
    if state is not None:
        query = query.where(TaskRow.state == state)
    if round is not None:
        query = query.where(TaskRow.round == round)
    rows, after = await fetch_page(session, query, TaskRow.id, str, cursor=cursor, limit=limit)
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


@router.get("/{campaign_id}/metrics")
async def list_metrics(
    campaign_id: str,
    session: ReadSession,
    _: OperatorDep,
    name: str | None = None,
    round: OptionalNumber = None,  # noqa: A002
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Page[MetricView]:
    """The campaign's metrics in the order in which they were recorded."""
    campaign = await _get(session, campaign_id)
    query = select(MetricRow).where(MetricRow.campaign_id == campaign_id)
    if name is not None:
        query = query.where(MetricRow.name == name)
    if round is not None:
        query = query.where(MetricRow.round == round)
    rows, after = await fetch_page(session, query, MetricRow.id, str, cursor=cursor, limit=limit)
    known = _metrics_of(campaign)
    views = [
        MetricView(
            round=row.round,
            name=row.name,
            value=row.value,
            unit=known[row.name].unit if row.name in known else "",
            client_number=row.client_number,
            agent_name=row.agent_name,
        )
        for row in rows
    ]
    return Page(items=views, next_cursor=after)


@router.get("/{campaign_id}/adapters")
async def list_adapters(
    campaign_id: str, session: ReadSession, _: OperatorDep, limit: Limit = 100, cursor: Cursor = None
) -> Page[AdapterView]:
    """The campaign's global adapters with their lineage."""
    campaign = await _get(session, campaign_id)
    query = select(AdapterRow).where(AdapterRow.campaign_id == campaign_id)
    rows, after = await fetch_page(session, query, AdapterRow.number, int, cursor=cursor, limit=limit)
    return Page(items=[await _adapter_view(session, campaign, row) for row in rows], next_cursor=after)


@router.get("/{campaign_id}/adapters/{number}")
async def show_adapter(campaign_id: str, number: Number, session: ReadSession, _: OperatorDep) -> AdapterView:
    """One global adapter."""
    campaign = await _get(session, campaign_id)
    row = await session.get(AdapterRow, (campaign_id, number))
    if row is None:
        raise NotFound("adapter", number)
    return await _adapter_view(session, campaign, row)


async def _get(session: AsyncSession, campaign_id: str) -> CampaignRow:
    campaign = await session.get(CampaignRow, campaign_id)
    if campaign is None:
        raise NotFound("campaign", campaign_id)
    return campaign


def _metrics_of(campaign: CampaignRow) -> Mapping[str, Metric]:
    """What the campaign's metrics are, by name: those that all campaigns have if its kind is no longer installed."""
    try:
        return kinds.find(campaign.spec.kind).metrics
    except PluginUnavailable:
        return metrics.by_name((*metrics.losses("", Weight.ROWS), *metrics.COMMON))


def _view(row: CampaignRow) -> CampaignView:
    return CampaignView(
        id=row.id,
        name=row.name,
        state=row.state,
        reason=row.reason,
        rounds_closed=row.rounds_closed,
        rounds=row.spec.rounds,
        created_at=row.created_at,
        ended_at=row.ended_at,
        final_adapter=row.final_adapter,
        best_adapter=row.best_adapter,
    )


async def _detail(session: AsyncSession, row: CampaignRow) -> CampaignDetail:
    views = [
        ParticipantView.model_validate(participant, from_attributes=True)
        for participant in await participants.all_of(session, row.id)
    ]
    return CampaignDetail(
        **_view(row).model_dump(),
        spec=row.spec,
        participants=views,
        fingerprint=row.fingerprint,
        metrics=list(_metrics_of(row).values()),
        origins=await chains.origins_of(session, row.id),
    )


async def _adapter_view(session: AsyncSession, campaign: CampaignRow, row: AdapterRow) -> AdapterView:
    stored = await session.scalar(
        select(
            exists().where(
                BlobUseRow.campaign_id == row.campaign_id,
                BlobUseRow.sha256 == row.sha256,
                BlobUseRow.kind == BlobKind.ADAPTER,
                BlobUseRow.stored,
            )
        )
    )
    return AdapterView(
        number=row.number,
        blob=BlobRef(sha256=row.sha256, n_bytes=row.n_bytes),
        stored=bool(stored),
        parent_sha256=row.parent_sha256,
        algorithm=campaign.spec.algorithm.name,
        contributions=row.contributions,
        created_at=row.created_at,
        metrics=row.metrics,
        origin=await chains.origin_of(session, campaign.id) if row.number == 0 else None,
    )
