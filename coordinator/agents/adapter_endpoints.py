"""Endpoints for the adapters that an agent's owner gets: those of campaigns in which the agent was a client."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from coordinator.database.tables import AdapterRow, CampaignRow
from coordinator.errors import NotFound
from coordinator.storage.stored_adapters import adapters_of, is_stored
from coordinator.tasks.transfer.blob_access import find_own_adapter, took_part
from coordinator.tasks.transfer.blob_replies import BLOB_REPLIES, TAKES_RANGE, blob_reply
from coordinator.web.authentication import AgentDep
from coordinator.web.deps import Cursor, Limit, ReadSession, ServicesDep
from coordinator.web.paging import fetch_page
from coordinator.web.routes import BoundedRoute
from shared.states import BlobKind
from shared.wire.adapters import OwnAdapter
from shared.wire.base import SHA256_PATTERN, BlobRef, Page

router = APIRouter(prefix="/v1/agents/me/campaigns/{campaign_id}/adapters", tags=["agents"], route_class=BoundedRoute)

_CampaignId = Annotated[str, Path(description="Id of a campaign in which the agent was a client.")]
_Digest = Annotated[str, Path(pattern=SHA256_PATTERN, description="The adapter's digest, as listed.")]


@router.get("")
async def list_own_adapters(
    campaign_id: _CampaignId,
    session: ReadSession,
    agent: AgentDep,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[OwnAdapter]:
    """The global adapters of a campaign in which the calling agent was a client, by number."""
    if await session.scalar(took_part(agent.id, campaign_id)) is None:
        raise NotFound("campaign", campaign_id)
    campaign = await session.get_one(CampaignRow, campaign_id)
    query, listing = adapters_of(campaign_id), f"{campaign_id}/own-adapters"
    rows, after = await fetch_page(session, query, AdapterRow.number, listing, cursor=cursor, limit=limit)
    numbers = [row.number for row in rows]
    kept = adapters_of(campaign_id).with_only_columns(AdapterRow.number).where(AdapterRow.number.in_(numbers))
    stored = set((await session.scalars(kept.where(is_stored()))).all())
    items = [
        OwnAdapter(
            number=row.number,
            blob=BlobRef(sha256=row.sha256, n_bytes=row.n_bytes),
            stored=row.number in stored,
            created_at=row.created_at,
            final=row.number == campaign.final_adapter,
            best=row.number == campaign.best_adapter,
        )
        for row in rows
    ]
    return Page(items=items, next_cursor=after)


@router.get(
    "/{sha256}",
    response_class=Response,
    responses=BLOB_REPLIES,
    openapi_extra=TAKES_RANGE,
)
async def get_own_adapter(
    campaign_id: _CampaignId, sha256: _Digest, request: Request, services: ServicesDep, agent: AgentDep
) -> Response:
    """The bytes of such an adapter, or a range of them. By its digest: after a rollback, its number is another's."""
    ref = await find_own_adapter(services, agent.id, campaign_id, sha256)
    return await blob_reply(services, BlobKind.ADAPTER, ref, request.headers.get("Range"))
