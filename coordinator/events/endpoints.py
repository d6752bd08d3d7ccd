"""Endpoints for events, as pages or as a stream (SSE)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import format_sse_event
from sqlalchemy import select

from coordinator.database.numbers import MAX_INT
from coordinator.database.tables import CampaignRow, EventRow
from coordinator.errors import NotFound
from coordinator.services import Services
from coordinator.web.authentication import OperatorDep
from coordinator.web.deps import Limit, ServicesDep
from shared.events import EventType
from shared.wire.base import Page
from shared.wire.events import EventView

router = APIRouter(prefix="/v1/campaigns", tags=["events"])

_BATCH = 1000
_GATHER_S = 0.05
"""Seconds to wait after a notification: events come in groups, and those within this time are read together."""


_DESCRIPTION = "\n".join(
    [
        "Events after a number: a page, or, asked for as `text/event-stream`, a stream that ends with the campaign.",
        "",
        "The types of events, and the keys of their data:",
        "",
        *(f"- `{each}`: {', '.join(f'`{key}`' for key in each.carries)}" for each in EventType),
    ]
)


@router.get("/{campaign_id}/events", response_model=Page[EventView], description=_DESCRIPTION)
async def list_events(
    campaign_id: str,
    request: Request,
    services: ServicesDep,
    _: OperatorDep,
    after: Annotated[int, Query(ge=0, le=MAX_INT)] = 0,
    limit: Limit = 1000,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_INT)] = None,
) -> Response:
    if not await services.database.fetch(select(CampaignRow.id).where(CampaignRow.id == campaign_id)):
        raise NotFound("campaign", campaign_id)
    start = last_event_id if last_event_id is not None else after
    if "text/event-stream" in request.headers.get("Accept", ""):
        stream = _stream(services, request, campaign_id, start)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    events = await _read(services, campaign_id, start, limit)
    cursor = str(events[-1].number) if len(events) == limit else None
    return JSONResponse(Page(items=events, next_cursor=cursor).model_dump(mode="json"))


async def _stream(services: Services, request: Request, campaign_id: str, after: int) -> AsyncIterator[bytes]:
    """Stream events until the campaign has ended and all were sent. Comments keep the connection alive."""
    silent_s = 0.0
    with services.notifiers.events.subscribe(campaign_id) as notifications:
        while not (services.notifiers.closing or await request.is_disconnected()):
            has_ended = await _has_ended(services, campaign_id)  # checked before the last events are read
            events = await _read(services, campaign_id, after, _BATCH)
            for event in events:
                yield format_sse_event(data_str=event.model_dump_json(), event=event.type, id=str(event.number))
                after = event.number
            if len(events) == _BATCH:
                continue
            if has_ended:
                return
            if events:
                silent_s = 0.0
            if await notifications.wait(services.settings.engine.poll_s):
                await asyncio.sleep(_GATHER_S)
            silent_s += services.settings.engine.poll_s
            if silent_s >= services.settings.service.event_keep_alive_s:
                silent_s = 0.0
                yield format_sse_event(comment="still here")


async def _has_ended(services: Services, campaign_id: str) -> bool:
    states = await services.database.fetch(select(CampaignRow.state).where(CampaignRow.id == campaign_id))
    return all(state.is_final for (state,) in states)


async def _read(services: Services, campaign_id: str, after: int, limit: int) -> list[EventView]:
    query = (
        select(EventRow.number, EventRow.at, EventRow.type, EventRow.data)
        .where(EventRow.campaign_id == campaign_id, EventRow.number > after)
        .order_by(EventRow.number)
        .limit(limit)
    )
    return [EventView.model_validate(row, from_attributes=True) for row in await services.database.fetch(query)]
