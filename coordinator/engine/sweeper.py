"""Periodic cleanup: expired leases, stale uploads, leftovers of killed processes, old verifications. Also records when
agents were last seen."""

import asyncio
import logging
from datetime import timedelta

from sqlalchemy import exists, select, update

from coordinator import lifecycle
from coordinator.database.tables import AgentRow, BlobUseRow, CampaignRow, TaskRow, UploadRow
from coordinator.engine import verification
from coordinator.services import Services
from coordinator.storage import scratch
from coordinator.storage.orphans import sweep_orphans
from coordinator.storage.retention import collect
from coordinator.tasks import leases, uploads
from shared.states import CampaignState

log = logging.getLogger(__name__)


class Sweeper:
    """Runs until it is cancelled."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # agents could not renew while the coordinator was down, so leases get their full time again
        self._leases_from = services.clock.now() + timedelta(seconds=services.settings.lease.ttl_s)
        self._leftovers_from = services.clock.now()

    async def run(self) -> None:
        """Sweep periodically until cancelled. A failure is logged, and the next sweep tries again."""
        while True:
            try:
                await self.sweep()
            except Exception:
                log.exception("the sweep failed; the next one tries again")
            await asyncio.sleep(self._services.settings.engine.sweep_s)

    async def sweep(self) -> None:
        """One pass."""
        now = self._services.clock.now()
        await self.write_last_seen()
        if now >= self._leases_from:
            async with self._services.database.write("expire leases") as session:
                await leases.expire(session, now)
        stale_before = now - timedelta(seconds=self._services.settings.storage.stale_upload_s)
        query = (
            select(UploadRow.id)
            .join(TaskRow, TaskRow.id == UploadRow.task_id)
            .where(TaskRow.state.not_in(lifecycle.LIVE_TASK) | (UploadRow.updated_at < stale_before))
        )
        for (upload_id,) in await self._services.database.fetch(query):
            await uploads.discard(self._services, upload_id)
        # updates of cancelled rounds; those of other rounds are collected when the round closes
        query = select(CampaignRow.id).where(
            CampaignRow.state == CampaignState.CANCELLED,
            exists().where(
                BlobUseRow.campaign_id == CampaignRow.id,
                BlobUseRow.stored,
                BlobUseRow.round > CampaignRow.rounds_closed,
            ),
        )
        for (campaign_id,) in await self._services.database.fetch(query):
            await collect(self._services.storage, campaign_id)
        if now >= self._leftovers_from:
            self._leftovers_from = now + timedelta(seconds=self._services.settings.storage.orphan_sweep_s)
            await self._clear_leftovers()

    async def _clear_leftovers(self) -> None:
        n_orphans = await sweep_orphans(self._services.storage)
        n_scratch = await asyncio.to_thread(scratch.clear, self._services.storage.scratch)
        if n_orphans or n_scratch:
            log.info("deleted %d blobs and %d files that a killed process left behind", n_orphans, n_scratch)
        await verification.delete_old(self._services)

    async def write_last_seen(self) -> None:
        """Record in the database when agents were last seen."""
        seen = dict(sorted(self._services.last_seen.items()))  # lock the rows in a fixed order
        if not seen:
            return
        async with self._services.database.write("last seen") as session:
            await session.execute(update(AgentRow), [{"id": key, "last_seen_at": at} for key, at in seen.items()])
        for agent_id, at in seen.items():
            if self._services.last_seen.get(agent_id) == at:
                del self._services.last_seen[agent_id]
