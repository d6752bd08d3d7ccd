"""Endpoints for campaigns."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.campaigns import chains, clients, rollback, service
from coordinator.campaigns.record_endpoints import metrics_of
from coordinator.campaigns.stop_view import stop_view
from coordinator.database.tables import CampaignRow
from coordinator.engine import participants, weights
from coordinator.errors import Conflict, IllegalMove, NothingToFinish, NotKept
from coordinator.services import Services
from coordinator.web.authentication import OperatorDep
from coordinator.web.campaign_path import CampaignId
from coordinator.web.deps import Cursor, Limit, ReadSession, ServicesDep, WriteSession
from coordinator.web.filters import NameFilter, Since, Until, equal, id_between
from coordinator.web.limits.bodies import takes
from coordinator.web.paging import fetch_page
from coordinator.web.reference.refusals import refuses
from coordinator.web.routes import BoundedRoute
from shared.campaign.spec import CampaignSpec
from shared.states import CampaignState
from shared.wire.base import Page
from shared.wire.campaigns import CampaignDetail, CampaignView, ParticipantView, RollbackRequest

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=BoundedRoute)

IdempotencyKey = Annotated[
    str | None,
    Header(
        max_length=100,
        description="Any text of the caller's. A second request with the same key and body gives the campaign of the "
        "first, so a request whose reply was lost can be sent again.",
    ),
]


@router.post("", status_code=201, responses=refuses(Conflict))
@takes(1 << 20)  # a campaign carries its template
async def create_campaign(
    spec: CampaignSpec,
    session: WriteSession,
    services: ServicesDep,
    _: OperatorDep,
    idempotency_key: IdempotencyKey = None,
) -> CampaignDetail:
    """Create a campaign. The same body with the same Idempotency-Key returns the same campaign."""
    return await _detail(session, services, await service.create(session, services, spec, idempotency_key))


@router.get("")
async def list_campaigns(
    session: ReadSession,
    _: OperatorDep,
    name: NameFilter = None,
    state: Annotated[CampaignState | None, Query(description="Only campaigns in this state.")] = None,
    kind: Annotated[str | None, Query(max_length=100, description="Only of this kind of training.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[CampaignView]:
    """Campaigns, newest first. *since* and *until* bound the time of creation."""
    query = equal(select(CampaignRow), (CampaignRow.name, name), (CampaignRow.state, state))
    query = id_between(query, CampaignRow.id, since, until)
    if kind is not None:
        query = query.where(CampaignRow.spec_json["kind"].as_string() == kind)
    key, listing = CampaignRow.id, "campaigns"
    rows, after = await fetch_page(session, query, key, listing, cursor=cursor, limit=limit, newest_first=True)
    return Page(items=[_view(row) for row in rows], next_cursor=after)


@router.get("/{campaign}")
async def show_campaign(
    campaign_id: CampaignId, session: ReadSession, services: ServicesDep, _: OperatorDep
) -> CampaignDetail:
    """One campaign with its file and its participants."""
    return await _detail(session, services, await session.get_one(CampaignRow, campaign_id))


@router.post("/{campaign}/pause", responses=refuses(IllegalMove))
async def pause_campaign(
    campaign_id: CampaignId, session: WriteSession, services: ServicesDep, _: OperatorDep
) -> CampaignView:
    """Stop granting leases; tasks under way may finish."""
    return _view(await service.pause(session, services, campaign_id))


@router.post("/{campaign}/resume", responses=refuses(IllegalMove))
async def resume_campaign(
    campaign_id: CampaignId, session: WriteSession, services: ServicesDep, _: OperatorDep
) -> CampaignView:
    """Continue a paused campaign."""
    return _view(await service.resume(session, services, campaign_id))


@router.post("/{campaign}/cancel", responses=refuses(IllegalMove))
async def cancel_campaign(
    campaign_id: CampaignId, session: WriteSession, services: ServicesDep, _: OperatorDep
) -> CampaignView:
    """End a campaign at once; its adapters stay."""
    return _view(await service.cancel(session, services, campaign_id))


@router.post("/{campaign}/finish", responses=refuses(IllegalMove, NothingToFinish))
async def finish_campaign(
    campaign_id: CampaignId, session: WriteSession, services: ServicesDep, _: OperatorDep
) -> CampaignView:
    """Finish a campaign early: close the open round if it has its minimum of updates, otherwise drop it, then evaluate
    the last adapter and complete. A campaign that is finishing or completed stays as it is."""
    return _view(await service.finish(session, services, campaign_id))


@router.post("/{campaign}/rollback", responses=refuses(IllegalMove, NotKept))
async def roll_back_campaign(
    campaign_id: CampaignId, body: RollbackRequest, services: ServicesDep, _: OperatorDep
) -> CampaignView:
    """Return to the state after a round, and leave the campaign paused."""
    return _view(await rollback.roll_back(services, campaign_id, body.round))


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


async def _detail(session: AsyncSession, services: Services, row: CampaignRow) -> CampaignDetail:
    away = await clients.away_by_agent(session, services, row.id)
    revoked = await clients.revoked_agents(session, row.id)
    of_weights = weights.notices(row.spec, await participants.available_clients(session, row.id))
    views = []
    for participant in await participants.all_of(session, row.id):
        view = ParticipantView.model_validate(participant, from_attributes=True)
        notices = "; ".join(filter(None, (view.reason, of_weights.get(participant.agent_id))))
        agent_id = participant.agent_id
        found = {
            "reason": notices or None,
            "benchmarks": [*participant.offers],
            "away_since": away.get(agent_id),
            "revoked": agent_id in revoked,
        }
        views.append(view.model_copy(update=found))
    return CampaignDetail(
        **_view(row).model_dump(),
        spec=row.spec,
        spec_sha256=row.spec_sha256,
        participants=views,
        fingerprint=row.fingerprint,
        metrics=list(metrics_of(row).values()),
        stop=await stop_view(session, row),
        origins=await chains.origins_of(session, row.id),
    )
