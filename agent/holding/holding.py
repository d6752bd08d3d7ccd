"""What becomes of a finished update: it is kept back, if its owner wants to see it first, or may be sent."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.admission import Admitted
from agent.configuration.policy import PolicySettings
from agent.configuration.settings import AgentSettings
from agent.holding.norm import update_norm
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat
from agent.orders.job_files import DELTA_FILE
from agent.orders.jobs import TrainJob
from agent.record.bookings import Work
from agent.record.held import HeldUpdate
from agent.workspace import Workspace
from shared import crash_points
from shared.adapters.files import AdapterError
from shared.agent_home import home_option

log = logging.getLogger(__name__)

_AGAIN_S = 1.0
"""Seconds after an update that was held before is asked for and held again."""


class Holding:
    """Keeps updates back. What the record says counts: whatever the coordinator asks for, an update leaves this machine
    only if nobody holds it there."""

    def __init__(self, api: CoordinatorApi, workspace: Workspace) -> None:
        self._api = api
        self._workspace = workspace
        self._record = workspace.record

    async def keeps(self, settings: AgentSettings, admitted: Admitted, folder: Path, heartbeat: LeaseHeartbeat) -> bool:
        """Keep a finished update back, if its owner holds it. Returns False for what may be sent.

        Raises RecordUnusable, and what ``LeaseHeartbeat.finish`` raises.

        Args:
            settings: the owner's.
            admitted: the task; only trainings have updates.
            folder: that of the task, with the update.
            heartbeat: the task's lease, which ends if the update is kept.
        """
        job, work = admitted.job, admitted.work
        if not isinstance(job, TrainJob) or work is None:
            return False
        before, update = await asyncio.to_thread(self._held, settings.policy, job, work, folder, heartbeat.task_id)
        if update is None:
            return False
        crash_points.reach("agent: update noted")
        await heartbeat.finish(self._api.hold)
        crash_points.reach("agent: update held")
        if before is not None:  # a coordinator that asks again and again gets the same answer, but not in a hurry
            await asyncio.sleep(_AGAIN_S)
        # its owner may have let it go just before: the coordinator has not heard that of a held task
        await asyncio.to_thread(self._record.held.passed_on, update, is_told=False)
        self._tell(update)
        return True

    def _held(
        self, policy: PolicySettings, job: TrainJob, work: Work, folder: Path, task_id: str
    ) -> tuple[HeldUpdate | None, HeldUpdate | None]:
        """The update as it was held before, None if it was not, and as it is held now, None if it may be sent."""
        self._note_norm(work, folder)
        crash_points.reach("agent: norm noted")
        before = self._record.held.find((work.campaign_id, work.round, work.history))
        if before is not None and not before.is_held:
            return before, None
        if not policy.holds:
            if before is not None and self._record.held.release(before):
                log.info("%s goes now: the settings hold no updates any more", _name(before))
            return before, None
        after_s = policy.hold_updates_s
        release_at = datetime.now(UTC) + timedelta(seconds=after_s) if after_s is not None else None
        update = self._record.held.hold(work, task_id, folder.name, job, release_at)
        return before, update if update.is_held else None

    def _note_norm(self, work: Work, folder: Path) -> None:
        """Record the update's norm. A file that cannot be read is no reason to fail: it is checked where it goes."""
        try:
            self._record.bookings.keep_norm(work, update_norm(folder / DELTA_FILE))
        except (AdapterError, OSError) as error:
            log.warning("the norm of the update is not known: %s", error)

    def _tell(self, update: HeldUpdate) -> None:
        see = f"fedloom agent release {update.campaign_id} --round {update.round}"
        home = home_option(self._workspace.home)
        itself = f"; it goes by itself at {update.release_at.astimezone():%Y-%m-%d %H:%M}" if update.release_at else ""
        log.info(
            "%s is held%s: see it with %s%s, release it with %s --yes%s", _name(update), itself, see, home, see, home
        )

    async def sent(self, admitted: Admitted) -> None:
        """Note that an update was sent, or refused for good."""
        if isinstance(admitted.job, TrainJob) and (work := admitted.work) is not None:
            await asyncio.to_thread(self._end, (work.campaign_id, work.round, work.history))

    def _end(self, key: tuple[str, int, int]) -> None:
        update = self._record.held.find(key)
        if update is not None:
            self._record.held.end(update)


def _name(update: HeldUpdate) -> str:
    return f"the update of round {update.round} of campaign {update.job.campaign_name}"
