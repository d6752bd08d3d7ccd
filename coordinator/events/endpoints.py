"""Endpoints for events, of one campaign and of all, as pages or as a stream (SSE)."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from coordinator.database.numbers import read_number
from coordinator.errors import Invalid, NotFound
from coordinator.events.reading import OfAllCampaigns, OfCampaign, Source, Wanted
from coordinator.events.stream import is_wanted, stream_reply
from coordinator.services import Services
from coordinator.web.authentication import OperatorDep
from coordinator.web.campaign_path import CampaignId, find_campaign_id
from coordinator.web.deps import Cursor, Limit, ServicesDep
from coordinator.web.filters import Since, Until, check_span
from coordinator.web.paging import cursor_after, read_number_cursor
from coordinator.web.reference.headers import answers
from coordinator.web.reference.refusals import refuses
from coordinator.web.routes import BoundedRoute
from shared.events import EventType
from shared.wire.base import Page
from shared.wire.events import EventView, FeedEventView

router = APIRouter(prefix="/v1", tags=["events"], route_class=BoundedRoute)

_TYPES = "\n".join(
    [
        "The types of events, and the keys of their data:",
        "",
        *(f"- `{each}`: {', '.join(f'`{key}`' for key in each.carries)}" for each in EventType),
    ]
)
_OF_CAMPAIGN = (
    "A campaign's events: a page, or, asked for as `text/event-stream`, a stream that ends with the campaign. The `id` "
    f"of an event in the stream is its number.\n\n{_TYPES}"
)
_OF_ALL = (
    "The events of all campaigns in the order of their commits: a page, or, asked for as `text/event-stream`, a stream "
    "without an end. The `id` of an event in the stream is its position. Positions count from 1 without gaps, so who "
    f"continues after the last one that was read misses nothing.\n\n{_TYPES}"
)
_EXAMPLE = """id: 17
event: round-opened
data: {"number": 17, "at": "2026-01-31T12:00:00Z", "type": "round-opened", "data": {"round": 3, "sampled": ["ada"]}}

: still here
"""
_IN_STREAM = "Each event has the fields `id`, `event` (its type) and `data` (JSON); comments keep the connection alive."
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/event-stream": {"schema": {"type": "string", "description": _IN_STREAM}, "example": _EXAMPLE}
        },
        "headers": answers("X-Accel-Buffering", "`no` in a stream: proxies must not gather its events"),
    }
}


async def _wanted(
    type: Annotated[  # noqa: A002
        list[EventType], Query(default_factory=list, description="Only events of this type. May be repeated.")
    ],
    since: Since = None,
    until: Until = None,
) -> Wanted:
    check_span(since, until)
    return Wanted(type, since, until)


WantedDep = Annotated[Wanted, Depends(_wanted)]


async def _after(
    after: Annotated[str, Query(max_length=20, description="Only events after the one with this number.")] = "0",
    last_event_id: Annotated[
        str | None, Header(max_length=20, description="As `after`; sent by a client that opens a stream again.")
    ] = None,
) -> int:
    number = read_number(last_event_id if last_event_id is not None else after)
    if number is None:
        raise Invalid(("after" if last_event_id is None else "Last-Event-ID", "not the number of an event"))
    return number


After = Annotated[int, Depends(_after)]


@router.get(
    "/campaigns/{campaign}/events",
    response_model=Page[EventView],
    description=_OF_CAMPAIGN,
    summary="List or follow a campaign's events",
    responses=_STREAM,
)
async def list_events(
    campaign_id: CampaignId,
    request: Request,
    services: ServicesDep,
    _: OperatorDep,
    wanted: WantedDep,
    after: After,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response:
    source = OfCampaign(services, campaign_id, wanted)
    return await _reply(services, request, source, f"{campaign_id}/events", after, cursor, limit)


@router.get(
    "/events",
    response_model=Page[FeedEventView],
    description=_OF_ALL,
    summary="List or follow the events of all campaigns",
    responses={**_STREAM, **refuses(NotFound)},
)
async def list_all_events(
    request: Request,
    services: ServicesDep,
    _: OperatorDep,
    wanted: WantedDep,
    after: After,
    campaign: Annotated[
        str | None, Query(max_length=100, description="Only of the campaign with this id, or the newest of this name.")
    ] = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response:
    campaign_id = await find_campaign_id(services, campaign) if campaign is not None else None
    source = OfAllCampaigns(services, wanted, campaign_id)
    return await _reply(services, request, source, f"events/{campaign_id or ''}", after, cursor, limit)


async def _reply(
    services: Services,
    request: Request,
    source: Source,
    listing: str,
    after: int,
    cursor: str | None,
    limit: int,
) -> Response:
    """A stream of the source's events, or a page of them."""
    if is_wanted(request):
        if cursor is not None:
            raise Invalid(("cursor", "a stream has no pages; continue it with Last-Event-ID or after"))
        if source.wanted.until is not None:
            raise Invalid(("until", "a stream goes on with new events; leave it out, or ask for pages"))
        return stream_reply(services, source, after)
    events = await source.read(max(after, read_number_cursor(listing, cursor)), limit + 1)
    next_cursor = cursor_after(listing, events[limit - 1][0]) if len(events) > limit else None
    page = Page[Any](items=[event for _, event in events[:limit]], next_cursor=next_cursor)
    return JSONResponse(page.model_dump(mode="json"))
