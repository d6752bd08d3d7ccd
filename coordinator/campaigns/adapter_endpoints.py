"""Endpoints for the global adapters of a campaign, by number or by what they are to it."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.campaigns import chains
from coordinator.database.tables import AdapterRow, CampaignRow
from coordinator.errors import NoAdapter
from coordinator.storage.stored_adapters import adapters_of, is_stored
from coordinator.web.authentication import OperatorDep
from coordinator.web.campaign_path import CampaignId
from coordinator.web.deps import Cursor, Limit, ReadSession
from coordinator.web.filters import Since, Until, time_between
from coordinator.web.paging import fetch_page
from coordinator.web.routes import BoundedRoute
from shared.bounds import MAX_COUNT
from shared.metrics import HELD_OUT_LOSS
from shared.wire.adapters import AdapterView, Origin
from shared.wire.base import BlobRef, Page

router = APIRouter(prefix="/v1/campaigns/{campaign}/adapters", tags=["adapters"], route_class=BoundedRoute)

Which = Annotated[
    str,
    Path(
        pattern=r"^([0-9]{1,10}|best|final|latest)$",
        description="Number of the adapter, or `best` (by the campaign's `evaluation.best`), `final` (the result of a "
        "campaign that has ended) or `latest`.",
    ),
]


@router.get("")
async def list_adapters(
    campaign_id: CampaignId,
    session: ReadSession,
    _: OperatorDep,
    stored: Annotated[bool | None, Query(description="Only adapters whose bytes are, or are not, stored.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[AdapterView]:
    """The campaign's global adapters with their lineage, by number."""
    campaign = await session.get_one(CampaignRow, campaign_id)
    query = time_between(adapters_of(campaign_id), AdapterRow.created_at, since, until)
    if stored is not None:
        query = query.where(is_stored() if stored else ~is_stored())
    key, listing = AdapterRow.number, f"{campaign_id}/adapters"
    rows, after = await fetch_page(session, query, key, listing, cursor=cursor, limit=limit)
    return Page(items=await _views(session, campaign, rows), next_cursor=after)


@router.get("/{which}")
async def show_adapter(campaign_id: CampaignId, which: Which, session: ReadSession, _: OperatorDep) -> AdapterView:
    """One global adapter."""
    campaign = await session.get_one(CampaignRow, campaign_id)
    row = await _find(session, campaign, which)
    [view] = await _views(session, campaign, [row])
    return view


async def _find(session: AsyncSession, campaign: CampaignRow, which: str) -> AdapterRow:
    """Find an adapter by its number or its role. Raises NoAdapter."""
    newest = await session.scalar(adapters_of(campaign.id).order_by(AdapterRow.number.desc()).limit(1))
    if newest is None:
        raise NoAdapter(campaign.name, which, f"it is {campaign.state}, and none was made yet")
    if which == "latest":
        return newest
    number = {"best": campaign.best_adapter, "final": campaign.final_adapter}[which] if not which.isdecimal() else which
    if number is None:
        by = campaign.spec.evaluation.best
        not_measured = "none was evaluated" + (f" by {by}" if by != HELD_OUT_LOSS else "")
        reason = not_measured if which == "best" else f"it is {campaign.state} and has not ended"
        raise NoAdapter(campaign.name, which, reason)
    row = await session.get(AdapterRow, (campaign.id, int(number))) if int(number) <= MAX_COUNT else None
    if row is None:
        raise NoAdapter(campaign.name, which, f"its adapters are 0 to {newest.number}")
    return row


async def _views(session: AsyncSession, campaign: CampaignRow, rows: Sequence[AdapterRow]) -> list[AdapterView]:
    """Adapters of a campaign as they are sent, with at most two queries however many they are."""
    numbers = [row.number for row in rows]
    of_rows = select(AdapterRow.number).where(AdapterRow.campaign_id == campaign.id, AdapterRow.number.in_(numbers))
    stored = set((await session.scalars(of_rows.where(is_stored()))).all())
    origin = await chains.origin_of(session, campaign.id) if 0 in numbers else None
    return [_view(campaign, row, origin, stored=row.number in stored) for row in rows]


def _view(campaign: CampaignRow, row: AdapterRow, origin: Origin | None, *, stored: bool) -> AdapterView:
    """origin: of adapter 0."""
    return AdapterView(
        number=row.number,
        blob=BlobRef(sha256=row.sha256, n_bytes=row.n_bytes),
        stored=stored,
        parent_sha256=row.parent_sha256,
        algorithm=campaign.spec.algorithm.name,
        contributions=row.contributions,
        created_at=row.created_at,
        evaluating=row.evaluating,
        metrics=row.metrics,
        benchmarks=[{"name": name} | facts for name, facts in row.benchmarks.items()],
        n_clients=row.n_clients,
        of_clients=row.of_clients,
        origin=origin if row.number == 0 else None,
    )
