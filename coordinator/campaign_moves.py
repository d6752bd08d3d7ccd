"""Moves of campaigns from one state to another, each with its event."""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.tables import CampaignRow
from coordinator.events.log import record
from shared.events import EventType
from shared.states import CampaignState


async def move(session: AsyncSession, campaign: CampaignRow, now: datetime, to: CampaignState, **values: Any) -> None:
    """Move a locked campaign to another state, and record it. values: of its columns."""
    before = campaign.state
    await lifecycle.move(session, campaign, to, **values)
    data = {"before": before.value, "to": to.value, "reason": values.get("reason")}
    record(session, campaign, now, EventType.CAMPAIGN_MOVED, **data)


async def pause(session: AsyncSession, campaign: CampaignRow, now: datetime, reason: str) -> None:
    """Pause a campaign because only a person can help; ``fedloom campaign resume`` continues it."""
    await move(session, campaign, now, CampaignState.PAUSED, paused_from=campaign.state, reason=reason)
