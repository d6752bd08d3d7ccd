"""Finds tasks added by other processes, with one query for all waiting agents."""

import asyncio
import logging

from sqlalchemy import select

from coordinator import lifecycle
from coordinator.database.availability import errors_logged
from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import CampaignRow, TaskRow
from coordinator.services import Services
from shared.states import TaskState

log = logging.getLogger(__name__)

_HAVE_WORK = Prepared(
    select(TaskRow.agent_id)
    .join(CampaignRow, CampaignRow.id == TaskRow.campaign_id)
    .where(
        TaskRow.state == TaskState.PENDING,
        TaskRow.next_grant_at.is_(None) | (TaskRow.next_grant_at <= given("now")),
        CampaignRow.state.in_(lifecycle.ACTIVE_CAMPAIGN),
    )
)
"""The agents with a task that they can be granted. Few of them are waiting, and few of those who wait have any."""


async def poll_for_work(services: Services) -> None:
    """Wake waiting agents that have pending tasks, every ``engine.poll_s`` seconds, until cancelled.

    Nothing is asked while nothing was committed, if the database can tell: a pause of a task, which ends without that,
    is waited for by its agent's request itself.
    """
    seen: object | None = None
    while True:
        await asyncio.sleep(services.settings.engine.poll_s)
        with errors_logged(log, "could not query pending tasks; trying again"):
            version = services.database.version()
            if version is None or version != seen:
                await _wake_waiting(services)
            seen = version


async def _wake_waiting(services: Services) -> None:
    tasks = services.notifiers.tasks
    if tasks.keys:
        now = services.clock.now()
        tasks.notify({agent_id for (agent_id,) in await services.database.ask(_HAVE_WORK, now=now)})
