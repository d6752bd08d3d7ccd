"""Finds work that came from another process: one small query for all waiting agents, whatever their number."""

import asyncio
import logging

from sqlalchemy import select

from coordinator import lifecycle
from coordinator.database.tables import CampaignRow, TaskRow
from coordinator.services import Services
from shared.states import TaskState

log = logging.getLogger(__name__)

_AT_ONCE = 500


async def poll_for_work(services: Services) -> None:
    """Ring for agents with pending tasks, and for watchers, every ``engine.poll_s``, until cancelled."""
    while True:
        await asyncio.sleep(services.settings.engine.poll_s)
        waiting = services.notifiers.tasks.keys
        try:
            for start in range(0, len(waiting), _AT_ONCE):
                query = (
                    select(TaskRow.agent_id)
                    .join(CampaignRow, CampaignRow.id == TaskRow.campaign_id)
                    .where(
                        TaskRow.agent_id.in_(waiting[start : start + _AT_ONCE]),
                        TaskRow.state == TaskState.PENDING,
                        CampaignRow.state.in_(lifecycle.ACTIVE_CAMPAIGN),
                    )
                )
                services.notifiers.tasks.notify(
                    [agent_id for (agent_id,) in await services.database.fetch(query.distinct())]
                )
        except Exception:
            log.exception("could not look out for work")
