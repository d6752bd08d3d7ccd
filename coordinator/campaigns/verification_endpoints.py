"""Verifications of a campaign's rounds: jobs that the engine does."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import select

from coordinator.campaigns import verifications
from coordinator.database.tables import VerificationRow
from coordinator.errors import IllegalMove
from coordinator.web.authentication import OperatorDep
from coordinator.web.campaign_path import CampaignId
from coordinator.web.deps import Cursor, Limit, ReadSession, ServicesDep, WriteSession
from coordinator.web.filters import Since, Until, equal, id_between
from coordinator.web.paging import fetch_page
from coordinator.web.reference.headers import answers
from coordinator.web.reference.refusals import refuses
from coordinator.web.routes import BoundedRoute
from shared.bounds import MAX_COUNT
from shared.states import VerificationState
from shared.wire.base import Page
from shared.wire.verification import VerificationDetail, VerificationRequest, VerificationView

router = APIRouter(prefix="/v1/campaigns", tags=["verifications"], route_class=BoundedRoute)

After = Annotated[int, Query(ge=-1, le=MAX_COUNT, description="Only outcomes of rounds above this number.")]
_ALL = VerificationRequest()


@router.post(
    "/{campaign}/verifications",
    status_code=202,
    responses={202: {"headers": answers("Location", "Where the verification is")}},
)
async def start_verification(
    campaign_id: CampaignId,
    session: WriteSession,
    services: ServicesDep,
    _: OperatorDep,
    response: Response,
    body: VerificationRequest = _ALL,
) -> VerificationView:
    """Have rounds recomputed from their stored updates and their digests compared; by default all closed rounds, with
    adapter 0. The same request gives the same verification until that has ended."""
    view = await verifications.start(session, services, campaign_id, body.rounds)
    response.headers["Location"] = f"{router.prefix}/{campaign_id}/verifications/{view.id}"
    return view


@router.get("/{campaign}/verifications")
async def list_verifications(
    campaign_id: CampaignId,
    session: ReadSession,
    _: OperatorDep,
    state: Annotated[VerificationState | None, Query(description="Only verifications in this state.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[VerificationView]:
    """The campaign's verifications, newest first, for as long as they are stored."""
    query, key = select(VerificationRow).where(VerificationRow.campaign_id == campaign_id), VerificationRow.id
    query = id_between(equal(query, (VerificationRow.state, state)), key, since, until)
    listing = f"{campaign_id}/verifications"
    rows, after = await fetch_page(session, query, key, listing, cursor=cursor, limit=limit, newest_first=True)
    return Page(items=await verifications.views(session, rows), next_cursor=after)


@router.get("/{campaign}/verifications/{verification_id}")
async def show_verification(
    campaign_id: CampaignId,
    verification_id: str,
    session: ReadSession,
    _: OperatorDep,
    after: After = -1,
    limit: Limit = 1000,
) -> VerificationDetail:
    """One verification with its progress, and the outcomes of rounds above *after*."""
    return await verifications.detail(session, campaign_id, verification_id, after, limit)


@router.post("/{campaign}/verifications/{verification_id}/cancel", responses=refuses(IllegalMove))
async def cancel_verification(
    campaign_id: CampaignId, verification_id: str, session: WriteSession, services: ServicesDep, _: OperatorDep
) -> VerificationView:
    """End a verification early; the outcomes so far stay."""
    return await verifications.cancel(session, services, campaign_id, verification_id)
