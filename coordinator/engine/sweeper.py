"""Periodic cleanup: expired leases, stale uploads, leftovers of killed processes, old verifications, SQLite's log."""

import asyncio
import logging
from datetime import datetime, timedelta

from sqlalchemy import exists, select

from coordinator import lifecycle
from coordinator.clock import later
from coordinator.database.availability import errors_logged
from coordinator.database.tables import BlobUseRow, CampaignRow, TaskRow, UploadRow
from coordinator.engine import verification
from coordinator.errors import DatabaseAway
from coordinator.services import Services
from coordinator.storage import scratch
from coordinator.storage.orphans import sweep_orphans
from coordinator.storage.retention import collect
from coordinator.tasks import leases
from coordinator.tasks.transfer import uploads
from shared.states import CampaignState

log = logging.getLogger(__name__)


async def keep_log_clear(services: Services) -> None:
    """For a process without a sweeper: clear SQLite's log of what this process deleted, until cancelled."""
    while True:
        with errors_logged(log, "could not clear the database's log; the next try follows"):
            await services.database.clear_log()
        await asyncio.sleep(services.settings.engine.sweep_s)


class Sweeper:
    """Runs until it is cancelled."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._renewable_from_now()
        self._leftovers_from = services.clock.now()

    def _renewable_from_now(self) -> None:
        """Give leases their full time again: agents could not renew them while the coordinator was down."""
        self._leases_from = later(self._services.clock.now(), self._services.settings.lease.ttl_s)

    async def run(self) -> None:
        """Sweep periodically until cancelled. A failure is logged, and the next sweep tries again."""
        while True:
            with errors_logged(log, "the sweep failed; the next one tries again"):
                await self.sweep()
            await asyncio.sleep(self._services.settings.engine.sweep_s)

    async def sweep(self) -> None:
        """One pass."""
        now = self._services.clock.now()
        try:
            await self._sweep(now)
        except DatabaseAway:  # agents cannot renew either
            self._renewable_from_now()
            raise

    async def _sweep(self, now: datetime) -> None:
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
            (CampaignRow.state == CampaignState.CANCELLED) | (CampaignRow.ends_after == CampaignRow.rounds_closed),
            exists().where(
                BlobUseRow.campaign_id == CampaignRow.id,
                BlobUseRow.stored,
                BlobUseRow.round > CampaignRow.rounds_closed,
            ),
        )
        for (campaign_id,) in await self._services.database.fetch(query):
            await collect(self._services.storage, campaign_id)
        if now >= self._leftovers_from:
            await self._clear_leftovers()
            self._leftovers_from = later(now, self._services.settings.storage.orphan_sweep_s)
        await self._services.database.clear_log()

    async def _clear_leftovers(self) -> None:
        n_orphans = await sweep_orphans(self._services.storage)
        n_scratch = await asyncio.to_thread(scratch.clear, self._services.storage.scratch)
        if n_orphans or n_scratch:
            log.info("deleted %d blobs and %d files that a killed process left behind", n_orphans, n_scratch)
        await verification.delete_old(self._services)
