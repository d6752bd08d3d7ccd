"""Verifications of a campaign's rounds: jobs that the engine does."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import select

from coordinator.campaigns import verifications
from coordinator.database.numbers import MAX_INT
from coordinator.database.tables import CampaignRow, VerificationRow
from coordinator.errors import NotFound
from coordinator.web.authentication import OperatorDep
from coordinator.web.deps import Cursor, Limit, ReadSession, ServicesDep, WriteSession
from coordinator.web.paging import fetch_page
from shared.wire.base import Page
from shared.wire.verification import VerificationDetail, VerificationRequest, VerificationView

router = APIRouter(prefix="/v1/campaigns", tags=["verifications"])

After = Annotated[int, Query(ge=-1, le=MAX_INT)]
_ALL = VerificationRequest()


@router.post("/{campaign_id}/verifications", status_code=202)
async def start_verification(
    campaign_id: str,
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


@router.get("/{campaign_id}/verifications")
async def list_verifications(
    campaign_id: str, session: ReadSession, _: OperatorDep, limit: Limit = 100, cursor: Cursor = None
) -> Page[VerificationView]:
    """The campaign's verifications, newest first, for as long as they are stored."""
    if await session.get(CampaignRow, campaign_id) is None:
        raise NotFound("campaign", campaign_id)
    query = select(VerificationRow).where(VerificationRow.campaign_id == campaign_id)
    key = VerificationRow.id
    rows, after = await fetch_page(session, query, key, str, cursor=cursor, limit=limit, newest_first=True)
    return Page(items=await verifications.views(session, rows), next_cursor=after)


@router.get("/{campaign_id}/verifications/{verification_id}")
async def show_verification(
    campaign_id: str,
    verification_id: str,
    session: ReadSession,
    _: OperatorDep,
    after: After = -1,
    limit: Limit = 1000,
) -> VerificationDetail:
    """One verification with its progress, and the outcomes of rounds above *after*."""
    return await verifications.detail(session, campaign_id, verification_id, after, limit)


@router.post("/{campaign_id}/verifications/{verification_id}/cancel")
async def cancel_verification(
    campaign_id: str, verification_id: str, session: WriteSession, services: ServicesDep, _: OperatorDep
) -> VerificationView:
    """End a verification early; the outcomes so far stay."""
    return await verifications.cancel(session, services, campaign_id, verification_id)
