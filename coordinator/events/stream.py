"""Streams events as server-sent events."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from coordinator.errors import DatabaseAway
from coordinator.events.reading import Source
from coordinator.services import Services

_BATCH = 1000
_GATHER_S = 0.05
"""Seconds to wait after a notification: events come in groups, and those within this time are read together."""
_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""Proxies must not keep, gather or compress the events: a compressor holds a rare event back for minutes."""


def is_wanted(request: Request) -> bool:
    """Whether the caller asks for a stream instead of a page."""
    return "text/event-stream" in request.headers.get("Accept", "")


def stream_reply(services: Services, source: Source, after: int) -> StreamingResponse:
    """The source's events after a place, and new ones as they happen."""
    return StreamingResponse(_stream(services, source, after), media_type="text/event-stream", headers=_HEADERS)


async def _stream(services: Services, source: Source, after: int) -> AsyncIterator[bytes]:
    """Stream events until none can follow and all were sent. Comments keep the connection alive."""
    silent_s = 0.0
    yield format_sse_event(comment="connected")  # some proxies pass the header on with the first bytes only
    with services.notifiers.events.subscribe(source.notifier_key) as notifications:
        while not services.notifiers.closing:  # the reply ends with its connection
            try:
                newest, has_ended = await source.end()  # before the last events are read
                events = await source.read(after, _BATCH)
            except DatabaseAway:  # the stream stays open, and goes on once the database is back
                newest, has_ended, events = after, False, []
            for place, event in events:
                yield format_sse_event(data_str=event.model_dump_json(), event=event.type, id=str(place))
                after = place
            if len(events) == _BATCH:
                continue
            if has_ended:
                return
            after = max(after, newest)  # those between are not wanted; they are not read again
            if events:
                silent_s = 0.0
            if await notifications.wait(services.settings.engine.poll_s):
                await asyncio.sleep(_GATHER_S)
            silent_s += services.settings.engine.poll_s
            if silent_s >= services.settings.service.event_keep_alive_s:
                silent_s = 0.0
                yield format_sse_event(comment="still here")
