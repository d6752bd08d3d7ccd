"""The event log of a campaign, and the order of the events of all campaigns.

An event's number counts in its campaign, under the campaign's lock. Its position counts over all campaigns. Positions
are given by the last statement of a transaction, under the lock of the one row that counts them, which is held until
the commit has ended. So an event becomes visible only after all events with lower positions, on both databases: a
reader that has seen position n never misses an earlier one. The price is that transactions with events commit one
after the other.
"""

import logging
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from sqlalchemy import insert, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.columns import BigWholeNumber
from coordinator.database.prepared import Prepared, Transaction, given, given_each
from coordinator.database.sessions import before_commit
from coordinator.database.tables import CampaignRow, EventRow
from shared.events import EventType
from shared.text.unsafe import one_line

log = logging.getLogger(__name__)

_LOGGED_CHARACTERS = 1000
"""Most characters of one value in the log; the event has all."""
_RECORDED, _LAST = "events", "campaigns of events"
_NOTE_LAST = Prepared(
    update(CampaignRow).where(CampaignRow.id == given("campaign")).values(given_each("last_event", "due_at"))
)
_COUNT = Prepared(
    text(
        "INSERT INTO event_counts (id, n_events) VALUES (1, :given_n) "
        "ON CONFLICT (id) DO UPDATE SET n_events = event_counts.n_events + :given_n RETURNING n_events"
    ).columns(n_events=BigWholeNumber)
)

_ADD = Prepared(insert(EventRow).values(given_each("campaign_id", "number", "position", "at", "type", "data")))


class Logged(Protocol):
    """A locked campaign: its row, or some columns of it."""

    id: Any
    name: Any
    last_event: Any
    due_at: Any


def record(
    within: AsyncSession | Transaction, campaign: Logged, now: datetime, event: EventType, /, **data: Any
) -> None:
    """Append an event to a locked campaign's log, in the transaction of the change. It gets the next number.

    Of a campaign's columns, last_event and due_at are stored with it.

    data: the keys that the event's type carries. Its texts may quote other parties: they become single lines.
    """
    assert data.keys() == set(event.carries), f"{event} carries {event.carries}, not {tuple(data)}"
    campaign.last_event += 1
    clean = {key: _as_lines(value) for key, value in data.items()}
    facts = ", ".join(f"{key} {one_line(str(value), _LOGGED_CHARACTERS)}" for key, value in clean.items())
    log.info("%s %s: %s", campaign.name, event, facts)

    row = {"campaign_id": campaign.id, "number": campaign.last_event, "at": now, "type": event.value, "data": clean}
    within.info.setdefault(_RECORDED, []).append(row)
    if not isinstance(campaign, CampaignRow):  # of a row, the session stores what changed
        within.info.setdefault(_LAST, {})[campaign.id] = campaign
    before_commit(within, _RECORDED, partial(_give_positions, within))


async def _give_positions(within: AsyncSession | Transaction) -> None:
    """Add the recorded events with the next positions."""
    rows: list[dict[str, Any]] = within.info.pop(_RECORDED)
    campaigns: dict[str, Logged] = within.info.pop(_LAST, {})
    for campaign_id, campaign in campaigns.items():
        last = {"last_event": campaign.last_event, "due_at": campaign.due_at}
        await _NOTE_LAST.rows(within, campaign=campaign_id, **last)
    # changes of objects are flushed with it, before: nothing is waited for under its lock
    [(last,)] = await _COUNT.rows(within, n=len(rows))
    first = last - len(rows) + 1
    await _ADD.run_each(within, [{**row, "position": position} for position, row in enumerate(rows, first)])


def _as_lines(value: Any) -> Any:
    """The value with every text in it as one line, without control characters."""
    match value:
        case str():
            return one_line(value)
        case dict():
            return {key: _as_lines(part) for key, part in value.items()}
        case list() | tuple():
            return [_as_lines(part) for part in value]
    return value
