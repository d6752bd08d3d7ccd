"""Finds tasks added by other processes, with few small queries for all waiting agents."""

import asyncio
import logging

from sqlalchemy import select

from coordinator import lifecycle
from coordinator.database.availability import errors_logged
from coordinator.database.tables import CampaignRow, TaskRow
from coordinator.services import Services
from shared.states import TaskState

log = logging.getLogger(__name__)

_BATCH = 500


async def poll_for_work(services: Services) -> None:
    """Wake waiting agents that have pending tasks, every ``engine.poll_s`` seconds, until cancelled."""
    while True:
        await asyncio.sleep(services.settings.engine.poll_s)
        waiting = services.notifiers.tasks.keys
        with errors_logged(log, "could not query pending tasks; trying again"):
            for start in range(0, len(waiting), _BATCH):
                query = (
                    select(TaskRow.agent_id)
                    .join(CampaignRow, CampaignRow.id == TaskRow.campaign_id)
                    .where(
                        TaskRow.agent_id.in_(waiting[start : start + _BATCH]),
                        TaskRow.state == TaskState.PENDING,
                        CampaignRow.state.in_(lifecycle.ACTIVE_CAMPAIGN),
                    )
                )
                services.notifiers.tasks.notify(
                    [agent_id for (agent_id,) in await services.database.fetch(query.distinct())]
                )
