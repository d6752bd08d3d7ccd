"""Lets held updates go: when their time has come, and when their owner says so in another process.

The record is what counts. A release is in it first; then the coordinator is told, however often it takes.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from agent.configuration.policy import PolicySettings
from agent.errors import AgentError, CoordinatorRefused, CoordinatorUnreachable
from agent.network.api import CoordinatorApi
from agent.record.campaigns import Decision
from agent.record.held import HeldUpdate
from agent.record.record import OwnerRecord
from shared.states import TaskState
from shared.wire.agents import OwnCampaign
from shared.wire.problems import ProblemType

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Seconds between two looks at the record, while the agent waits or works."""
_PAUSE_S = 30.0
"""Seconds until the coordinator is told again that could not be reached."""
_OVER = frozenset({ProblemType.ILLEGAL_MOVE, ProblemType.NOT_FOUND})
"""Refusals of a release that no later one changes."""


class Releases:
    """Lets updates go."""

    def __init__(self, api: CoordinatorApi, record: OwnerRecord) -> None:
        self._api = api
        self._record = record
        self._not_before = 0.0
        self._turn = asyncio.Lock()

    async def attend(self) -> None:
        """Look at the record every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.pass_on()
            except (AgentError, OSError) as error:  # the next task meets the same, and says so
                log.debug("held updates were not looked at: %s", error)

    async def pass_on(self) -> None:
        """Let go what is due, and tell the coordinator what it was not told. Raises RecordUnusable."""
        async with self._turn:
            for update in await asyncio.to_thread(self._let_go_due):
                if update.passed_on_at is None and time.monotonic() >= self._not_before:
                    await self._tell(update)

    def _let_go_due(self) -> list[HeldUpdate]:
        """Let go whatever is due. Returns all that was let go and is not sent yet."""
        held, now, released = self._record.held, datetime.now(UTC), []
        for update in held.kept():
            if not update.is_held:
                released.append(update)
            elif update.release_at is not None and update.release_at <= now and held.release(update):
                log.info("%s goes now: its time has come (hold_updates_s)", _name(update))
                released.append(update)
        return released

    async def review_policy(self, policy: PolicySettings) -> None:
        """Let everything go if the settings hold no updates any more. Raises RecordUnusable."""
        if not policy.holds:
            await asyncio.to_thread(self._let_all_go)

    def _let_all_go(self) -> None:
        for update in self._record.held.kept():
            if update.is_held and self._record.held.release(update):
                log.info("%s goes now: the settings hold no updates any more", _name(update))

    async def look(self, campaigns: Iterable[OwnCampaign]) -> None:
        """End what can count nowhere, and ask again after what was let go and is not sent. Raises RecordUnusable.

        campaigns: as the coordinator knows them.
        """
        over = {campaign.id for campaign in campaigns if campaign.state.is_final}
        async with self._turn:
            for update in await asyncio.to_thread(self._end_over, over):
                if not update.is_held:
                    await self._tell(update)

    def _end_over(self, over: set[str]) -> list[HeldUpdate]:
        """End the updates of campaigns that are over. Returns the others."""
        rest = []
        for update in self._record.held.kept():
            known = self._record.campaigns.find(update.campaign_id)
            if update.campaign_id in over:
                why = "the campaign is over"
            elif known is None or known.decision in (Decision.LEFT, Decision.REFUSED):
                why = "you left the campaign"
            else:
                rest.append(update)
                continue
            self._record.held.end(update)
            log.info("%s was not sent, and is no longer kept: %s", _name(update), why)
        return rest

    async def _tell(self, update: HeldUpdate) -> None:
        """Tell the coordinator that an update was let go."""
        held = self._record.held
        try:
            reply = await self._api.release_update(update.campaign_id, update.task_id)
        except CoordinatorUnreachable as error:
            self._not_before = time.monotonic() + _PAUSE_S
            log.debug("the coordinator was not told that %s is released: %s", _name(update), error)
        except CoordinatorRefused as refused:
            if refused.kind not in _OVER:
                self._not_before = time.monotonic() + _PAUSE_S
                log.warning("the coordinator was not told that %s is released: %s", _name(update), refused)
                return
            await asyncio.to_thread(held.end, update)
            log.info("%s was released too late, and was not sent: %s", _name(update), refused)
        else:
            self._not_before = 0.0
            if update.passed_on_at is None:
                log.info("told the coordinator that %s is released", _name(update))
            if reply.state is TaskState.DONE:
                await asyncio.to_thread(held.end, update)
            else:
                await asyncio.to_thread(held.passed_on, update, is_told=True)


def _name(update: HeldUpdate) -> str:
    return f"the update of round {update.round} of campaign {update.job.campaign_name}"
