"""When agents were last seen, and which of them are away.

An authenticated request of an agent is noted in memory (``Services.last_seen``), and written in batches.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import update

from coordinator.database.availability import errors_logged
from coordinator.database.prepared import Prepared, given, given_each
from coordinator.database.tables import AgentRow
from coordinator.services import Services
from shared.states import AgentState

AWAY_AFTER = 3
"""An agent is away once this many of its longest usual silences have passed without a request. A waiting agent asks
again after ``lease.max_wait_s`` seconds, and a working one renews its lease thrice in ``lease.ttl_s``."""

log = logging.getLogger(__name__)

_AT_ONCE = 1000
"""Agents of one transaction."""
_WRITE = Prepared(update(AgentRow).where(AgentRow.id == given("agent")).values(given_each("last_seen_at")))


def last_seen(services: Services, agent_id: str, written: datetime | None) -> datetime | None:
    """The time of an agent's last request; None if there was none. written: the time in the database."""
    return max(filter(None, (written, services.last_seen.get(agent_id))), default=None)


def away_since(services: Services, agent_id: str, state: AgentState, written: datetime | None) -> datetime | None:
    """The time of the last request of an agent that is away; None if it is not, or if it is revoked.

    No agent is away before the coordinator itself has been up for the time that makes agents away: none could call.
    """
    seen = last_seen(services, agent_id, written)
    if seen is None or state is not AgentState.ACTIVE:
        return None
    lease = services.settings.lease
    silence = timedelta(seconds=AWAY_AFTER * max(lease.max_wait_s, lease.ttl_s / 3))
    return seen if services.clock.now() - max(seen, services.up_since) > silence else None


async def keep_last_seen(services: Services) -> None:
    """Write every ``engine.sweep_s`` seconds when agents were last seen, until cancelled.

    Each process that serves agents writes its own, so that others know.
    """
    while True:
        await asyncio.sleep(services.settings.engine.sweep_s)
        with errors_logged(log, "could not write when agents were last seen; trying again"):
            await write_last_seen(services)


async def write_last_seen(services: Services) -> None:
    """Record in the database when agents were last seen."""
    seen = iter(sorted(services.last_seen.items()))  # lock the rows in a fixed order
    while batch := list(islice(seen, _AT_ONCE)):
        async with services.database.transact("last seen") as transaction:
            await _WRITE.run_each(transaction, [{"agent": agent_id, "last_seen_at": at} for agent_id, at in batch])
        for agent_id, at in batch:
            if services.last_seen.get(agent_id) == at:
                del services.last_seen[agent_id]
