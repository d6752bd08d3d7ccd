"""Events as they happen: server-sent events that survive a broken connection."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import httpx

from fedloom.errors import Refused, Unreachable, is_outage
from fedloom.transport import ATTEMPTS, OUTAGE_S, Transport, pause
from shared.wire.base import Page
from shared.wire.campaigns import CampaignView
from shared.wire.events import EventView

SILENCE_S = 90.0
"""A stream that is silent for longer counts as broken; a coordinator sends comments much more often."""
REOPEN_S = 1.0
MAX_EVENT_CHARACTERS = 4 << 20
"""The longest event that is read. Those of a coordinator are far shorter."""

E = TypeVar("E", bound=EventView)


@dataclass(frozen=True)
class Feed(Generic[E]):
    """Events in an order.

    Args:
        path: Where they are.
        event: Their type.
        place: The place of an event in the order.
        campaign_path: The campaign whose end is the end of the feed. None if it has no end.
        params: The filters.
    """

    path: str
    event: type[E]
    place: Callable[[E], int]
    campaign_path: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def past_events(transport: Transport, feed: Feed[E], after: int) -> Iterator[E]:
    """The recorded events after a place. Raises Unreachable and Refused."""
    cursor = None
    while True:
        page = transport.fetch(Page[feed.event], feed.path, after=after, cursor=cursor, **feed.params)  # type: ignore[name-defined]
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return


def follow_events(transport: Transport, feed: Feed[E], after: int) -> Iterator[E]:
    """The events after a place, past and future; those of a campaign until its last one.

    After a broken connection the stream continues after the last event received. An outage of the coordinator or its
    database is waited for, up to OUTAGE_S seconds after the first connection. Raises Unreachable and Refused.
    """
    query = urlencode({name: value for name, value in feed.params.items() if value is not None}, doseq=True)
    path, failures, connected_at = f"{feed.path}?{query}" if query else feed.path, 0, 0.0
    while True:
        opened_at = time.monotonic()
        try:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            with transport.stream(path, headers, read_timeout_s=SILENCE_S) as reply:
                failures, connected_at = 0, time.monotonic()
                for event in _read(transport, feed.event, reply):
                    after, connected_at = feed.place(event), time.monotonic()
                    yield event
            if feed.campaign_path and transport.fetch(CampaignView, feed.campaign_path).state.is_final:
                # a stream cut at its end may lack the last events
                for event in past_events(transport, feed, after):
                    after = feed.place(event)
                    yield event
                return
        except (Unreachable, Refused) as error:
            failures += 1
            if not is_outage(error) or (failures >= ATTEMPTS and time.monotonic() - connected_at > OUTAGE_S):
                raise
            pause(failures)
            continue
        if time.monotonic() - opened_at < REOPEN_S:
            time.sleep(REOPEN_S)  # a restarting coordinator closes streams as fast as they open


def _read(transport: Transport, kind: type[E], reply: httpx.Response) -> Iterator[E]:
    """The events of one connection, from the ``data`` fields alone: they contain the place and the type too."""
    data: list[str] = []
    n_characters = 0
    for line in _lines(transport, reply):
        n_characters = n_characters + len(line) + 1 if line else 0
        if n_characters > MAX_EVENT_CHARACTERS:
            raise _too_long(transport)
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            try:
                event = kind.model_validate_json("\n".join(data))
            except ValueError as error:
                raise Unreachable(
                    transport.url, "sent an event that this version cannot read; upgrade fedloom"
                ) from error
            data.clear()
            yield event


def _lines(transport: Transport, reply: httpx.Response) -> Iterator[str]:
    """The lines of a stream. Raises Unreachable at one without an end, which httpx would gather in memory."""
    rest = ""
    for text in reply.iter_text():
        rest += text  # in place: of a line in tiny pieces, each copy of the whole would take ever longer
        *whole, rest = rest.split("\n") if "\n" in text else [rest]
        yield from (line.removesuffix("\r") for line in whole)
        if len(rest) > MAX_EVENT_CHARACTERS:
            raise _too_long(transport)


def _too_long(transport: Transport) -> Unreachable:
    return Unreachable(transport.url, f"sent an event of more than {MAX_EVENT_CHARACTERS:,} characters")
