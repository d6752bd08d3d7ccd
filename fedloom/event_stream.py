"""A campaign's events as they happen: server-sent events that survive a broken connection."""

import time
from collections.abc import Iterator

import httpx

from fedloom.errors import Unreachable
from fedloom.transport import ATTEMPTS, OUTAGE_S, Transport, pause
from shared.wire.base import Page
from shared.wire.campaigns import CampaignView
from shared.wire.events import EventView

SILENCE_S = 90.0
"""A stream that is silent for longer counts as broken; a coordinator sends comments much more often."""
REOPEN_S = 1.0


def past_events(transport: Transport, path: str, after: int) -> Iterator[EventView]:
    """The recorded events after number *after*. Raises Unreachable and Refused."""
    while True:
        page = transport.fetch(Page[EventView], path, after=after)
        yield from page.items
        if page.next_cursor is None or not page.items:
            return
        after = page.items[-1].number


def follow_events(transport: Transport, campaign_path: str, after: int) -> Iterator[EventView]:
    """The events after number *after*, past and future, until the campaign's last one.

    After a broken connection the stream continues after the last event received. Raises Unreachable if the first
    connection fails or later ones fail for OUTAGE_S seconds, and Refused.
    """
    path, failures, connected_at = f"{campaign_path}/events", 0, 0.0
    while True:
        opened_at = time.monotonic()
        try:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            with transport.stream(path, headers, read_timeout_s=SILENCE_S) as reply:
                failures, connected_at = 0, time.monotonic()
                for event in _read(transport, reply):
                    after, connected_at = event.number, time.monotonic()
                    yield event
        except Unreachable:
            failures += 1
            if failures >= ATTEMPTS and time.monotonic() - connected_at > OUTAGE_S:
                raise
            pause(failures)
            continue
        if transport.fetch(CampaignView, campaign_path).state.is_final:
            yield from past_events(transport, path, after)  # a stream cut at its end may lack the last events
            return
        if time.monotonic() - opened_at < REOPEN_S:
            time.sleep(REOPEN_S)  # a restarting coordinator closes streams as fast as they open


def _read(transport: Transport, reply: httpx.Response) -> Iterator[EventView]:
    """The events of one connection, from the ``data`` fields alone: they contain the number and the type too."""
    data: list[str] = []
    for line in reply.iter_lines():
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            try:
                event = EventView.model_validate_json("\n".join(data))
            except ValueError as error:
                raise Unreachable(
                    transport.url, "sent an event that this version cannot read; upgrade fedloom"
                ) from error
            data.clear()
            yield event
