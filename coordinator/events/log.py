"""Writes events, in the transaction of what they tell."""

import logging
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.errors import NotFound
from coordinator.tables import CampaignRow, EventRow

log = logging.getLogger(__name__)


async def lock_campaign(session: AsyncSession, campaign_id: str) -> CampaignRow:
    """Lock a campaign for the rest of the transaction. Everything that changes a part of it comes through here first,
    so that two transactions never wait for each other in a circle: agents are locked before campaigns, and several
    campaigns in the order of their ids. Raises NotFound."""
    campaign = await lock_campaign_where(session, campaign_id, true())
    if campaign is None:
        raise NotFound("campaign", campaign_id)
    return campaign


async def lock_campaign_where(
    session: AsyncSession, campaign_id: str, condition: ColumnElement[bool]
) -> CampaignRow | None:
    """As ``lock_campaign``; None where the campaign, once it is locked, does not fulfil the condition."""
    query = select(CampaignRow).where(CampaignRow.id == campaign_id, condition).with_for_update()
    campaign: CampaignRow | None = await session.scalar(query, execution_options={"populate_existing": True})
    return campaign


def record(session: AsyncSession, campaign: CampaignRow, now: datetime, event: str, /, **data: Any) -> None:
    """Write an event of a locked campaign; it gets the next number. It is sent with the transaction's other rows."""
    campaign.last_event += 1
    log.info("%s %s: %s", campaign.name, event, ", ".join(f"{key} {value}" for key, value in data.items()))
    session.add(EventRow(campaign_id=campaign.id, number=campaign.last_event, at=now, type=event, data=data))
