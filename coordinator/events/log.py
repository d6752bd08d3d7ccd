"""The event log of a campaign."""

import logging
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import CampaignRow, EventRow
from shared.events import EventType

log = logging.getLogger(__name__)


def record(session: AsyncSession, campaign: CampaignRow, now: datetime, event: EventType, /, **data: Any) -> None:
    """Append an event to a locked campaign's log, in the transaction of the change. It gets the next number.

    data: the keys that the event's type carries.
    """
    assert data.keys() == set(event.carries), f"{event} carries {event.carries}, not {tuple(data)}"
    campaign.last_event += 1
    log.info("%s %s: %s", campaign.name, event, ", ".join(f"{key} {value}" for key, value in data.items()))
    session.add(EventRow(campaign_id=campaign.id, number=campaign.last_event, at=now, type=event.value, data=data))
