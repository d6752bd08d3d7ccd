"""Writes events, in the transaction of what they tell."""

import logging
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.errors import NotFound
from coordinator.tables import CampaignRow, EventRow

log = logging.getLogger(__name__)


async def lock_campaign(session: AsyncSession, campaign_id: str) -> CampaignRow:
    """Lock a campaign for the rest of the transaction. Everything that changes a part of it comes through here first,
    so that two transactions never wait for each other in a circle: agents are locked before campaigns, and several
    campaigns in the order of their ids. Raises NotFound."""
    query = select(CampaignRow).where(CampaignRow.id == campaign_id).with_for_update()
    campaign = await session.scalar(query, execution_options={"populate_existing": True})
    if campaign is None:
        raise NotFound("campaign", campaign_id)
    return campaign


async def record(session: AsyncSession, campaign: CampaignRow, now: datetime, event: str, /, **data: Any) -> None:
    """Write an event of a locked campaign; it gets the next number."""
    statement = (
        update(CampaignRow)
        .where(CampaignRow.id == campaign.id)
        .values(last_event=CampaignRow.last_event + 1)
        .returning(CampaignRow.last_event)
        .execution_options(synchronize_session=False)
    )
    number = (await session.execute(statement)).scalar_one()
    log.info("%s %s: %s", campaign.name, event, ", ".join(f"{key} {value}" for key, value in data.items()))
    session.add(EventRow(campaign_id=campaign.id, number=number, at=now, type=event, data=data))
