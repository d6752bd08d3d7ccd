"""The engine: ticks every campaign that is due, and aggregates rounds. The verifier runs alongside.

A tick is one transaction on the locked campaign: it does the pending work, and sets the time of the next tick. If
a round is ready to be aggregated, the tick claims the campaign, because an aggregation runs outside of any transaction.
The claim is a lease that is renewed while the aggregation lasts. The transaction that closes the round checks the
claim's token under the lock, so an engine that lost its claim (it was suspended, its clock jumped) changes nothing.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, select, update

from coordinator import lifecycle
from coordinator.clock import later
from coordinator.database.availability import errors_logged
from coordinator.database.objects import Objects
from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import CampaignRow
from coordinator.engine import rounds
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients import preparing
from coordinator.engine.closing import aggregate_round, close_round
from coordinator.engine.identity import engine_name
from coordinator.engine.verification import Verifier
from coordinator.engine.verification import free_claims as free_verifications
from coordinator.errors import (
    PLUGIN_REMEDY,
    AlgorithmFailed,
    CoordinatorError,
    CorruptBlob,
    DatabaseAway,
    NotFound,
    Unstorable,
)
from coordinator.failing_data import words_of
from coordinator.services import Services
from coordinator.storage.retention import Blob, release_blobs, retire
from shared.adapters.files import AdapterError
from shared.plugins import PluginUnavailable
from shared.states import CampaignState

log = logging.getLogger(__name__)

_TASKS_S = 0.02
"""Seconds that agents need for their next tasks: SQLite has one writer at a time."""
RETRY_S = 5.0
"""Seconds until the next tick after an unexpected error."""


_IN_THE_DATA = (Unstorable, ValueError, ArithmeticError)
"""Errors that lie in a campaign's data: the same data fails again."""


class Engine:
    """Runs until it is cancelled."""

    def __init__(self, services: Services) -> None:
        self._services = services
        at_once = services.settings.engine.campaigns_at_once
        self._ticks, self._aggregations = asyncio.Semaphore(at_once), asyncio.Semaphore(at_once)
        self._ticking: set[str] = set()
        self._due_again: set[str] = set()
        self._name = ""

    async def run(self) -> None:
        """Tick due campaigns until cancelled.

        An error in one campaign is logged and stored in the campaign's ``reason``. The campaign is ticked again after
        RETRY_S, unless the error lies in its data: then it is paused, because it would fail in the same way for ever.
        """
        working: set[asyncio.Task[None]] = set()
        with (
            engine_name(self._services.settings.data_dir) as (name, alone),
            self._services.notifiers.subscribe_engine() as notifications,
        ):
            self._name = name
            with errors_logged(log, "could not take over from engines before this one"):
                await self._take_over(alone=alone)
            verifying = asyncio.create_task(Verifier(self._services, name).run())
            try:
                while True:
                    with errors_logged(log, "could not query the campaigns that are due"):
                        for campaign_id in await self._due():
                            task = asyncio.create_task(self._work(campaign_id))
                            working.add(task)
                            task.add_done_callback(working.discard)
                    await notifications.wait(self._services.settings.engine.poll_s)
            finally:
                await self._services.database.cancel(*working, verifying)

    async def _take_over(self, *, alone: bool) -> None:
        """Release claims of a previous engine of this name, and make campaigns due whose plug-ins are missing now.

        alone: whether this engine holds the lock on the name; then the previous one is dead. A tick pauses campaigns
        without their plug-ins; plug-ins change only at a start.
        """
        now = self._services.clock.now()
        async with self._services.database.write("free claims") as session:
            if alone:
                await session.execute(
                    update(CampaignRow)
                    .where(CampaignRow.claim_token.startswith(self._name))
                    .values(claim_token=None, claim_expires_at=None, due_at=now)
                    .execution_options(synchronize_session=False)
                )
                await free_verifications(session, self._name)
            for campaign in (await session.scalars(select(CampaignRow).where(_is_active()))).all():
                if campaign.spec.missing_plugin() is not None:
                    campaign.due_at = now

    async def _due(self) -> Sequence[str]:
        """The campaigns that are due, except those that this engine is ticking now."""
        due = [
            campaign_id for (campaign_id,) in await self._services.database.ask(_DUE, now=self._services.clock.now())
        ]
        self._due_again.update(self._ticking.intersection(due))
        return [campaign_id for campaign_id in due if campaign_id not in self._ticking]

    async def _work(self, campaign_id: str) -> None:
        """Tick a campaign, and aggregate its round if it is ready. After an error another tick follows."""
        token = self._name + secrets.token_hex(12)
        try:
            if await self._tick(campaign_id, token):
                async with self._claim_renewed(campaign_id, token), self._aggregations:
                    gone = await self._aggregate(campaign_id, token)
                await self._delete(gone)
        except asyncio.CancelledError:
            with errors_logged(log, "could not release campaign %s; its claim expires", campaign_id):
                await self._release(campaign_id, token, 0)
            raise
        except DatabaseAway:
            await self._release_when_back(campaign_id, token)
        except _IN_THE_DATA as error:
            reason = f"the engine cannot go on with this campaign: {words_of(error)}"
            log.error("campaign %s is paused: %s", campaign_id, reason)
            with errors_logged(log, "campaign %s: could not pause it", campaign_id):
                await self._pause(campaign_id, token, reason)
        except Exception as error:
            log.exception("campaign %s: the engine failed", campaign_id)
            what = str(error) if isinstance(error, CoordinatorError | PluginUnavailable) else type(error).__name__
            with errors_logged(log, "campaign %s: could not record the reason", campaign_id):
                await self._release(campaign_id, token, RETRY_S, f"the engine failed and tries again: {what}")

    async def _tick(self, campaign_id: str, token: str) -> bool:
        """Do a campaign's pending work. Returns True if the campaign is now claimed, for the caller to aggregate."""
        self._ticking.add(campaign_id)
        try:
            async with self._ticks, self._locked("tick", _LOCK_DUE, campaign_id, now=self._services.clock.now()) as tx:
                if tx is None:  # another engine was faster
                    return False
                is_ready = await _advance_campaign(tx)
                campaign = tx.campaign
                campaign.claim_token, campaign.claim_expires_at = None, None  # left by an engine that died
                campaign.due_at = tx.next_tick_at
                if is_ready:
                    campaign.claim_token = token
                    campaign.claim_expires_at = campaign.due_at = self._claim_end()
            return is_ready
        finally:
            self._ticking.discard(campaign_id)
            if campaign_id in self._due_again:  # something happened during the tick
                self._due_again.discard(campaign_id)
                self._services.notifiers.wake_engine()

    async def _aggregate(self, campaign_id: str, token: str) -> Sequence[Blob]:
        """Aggregate the round of a claimed campaign, close the round, and release the claim. Returns what it no longer
        needs."""
        try:
            closed = await aggregate_round(self._services, campaign_id)
        except (AdapterError, AlgorithmFailed, CorruptBlob, NotFound) as error:
            async with self._claimed("pause after failure", campaign_id, token) as tx:
                if tx is not None and tx.campaign.state in lifecycle.ACTIVE_CAMPAIGN:
                    await tx.pause(f"the round cannot be aggregated: {error}")
            return []
        async with self._claimed("close round", campaign_id, token) as tx:
            if tx is None:  # the claim's new holder computes identical blobs and may reference ours: leave them
                return []
            if await close_round(tx, self._services.storage, closed):
                return await retire(tx.session, tx.campaign)
            return [(kind, ref.sha256) for kind, ref in closed.blobs.items()]

    async def _delete(self, blobs: Sequence[Blob]) -> None:
        """Delete blobs, once the agents that a closed round woke have their next tasks. At once if the engine ends."""
        try:
            await asyncio.sleep(_TASKS_S)
        finally:
            await release_blobs(self._services.storage, blobs)
        await self._services.database.clear_log()  # of the updates that were released; if not now, with the next sweep

    @asynccontextmanager
    async def _locked(
        self, name: str, lock: Objects[CampaignRow], campaign_id: str, **values: Any
    ) -> AsyncIterator[CampaignTx | None]:
        """One transaction on the locked campaign. Yields None if the campaign does not meet the lock's conditions.

        After the commit, wakes agents that have new tasks and, if events were recorded, the campaign's watchers.
        """
        async with self._services.database.write(name) as session:
            campaign = await lock.first(session, campaign=campaign_id, **values)
            if campaign is None:
                yield None
                return
            before = campaign.last_event
            tx = CampaignTx(session, campaign, self._services.clock.now())
            yield tx
            self._services.notifiers.after_commit(
                session,
                campaign_id=campaign_id if campaign.last_event != before else None,
                agent_ids=tx.wake,
                engine=False,
            )

    @asynccontextmanager
    async def _claimed(self, name: str, campaign_id: str, token: str) -> AsyncIterator[CampaignTx | None]:
        """Run the last transaction under a claim, and release the claim. Yields None if the claim was lost."""
        async with self._locked(name, _LOCK_CLAIMED, campaign_id, token=token) as tx:
            yield tx
            if tx is not None:
                tx.campaign.claim_token = tx.campaign.claim_expires_at = None
                tx.campaign.due_at = tx.next_tick_at

    async def _release_when_back(self, campaign_id: str, token: str) -> None:
        """Release a campaign once the database is back, so that it need not wait until the claim expires."""
        while True:
            try:
                await self._release(campaign_id, token, 0)
            except DatabaseAway:
                await asyncio.sleep(self._services.settings.engine.poll_s)
            else:
                return

    async def _pause(self, campaign_id: str, token: str, reason: str) -> None:
        """Pause a campaign that would fail for ever."""
        async with self._locked("pause after failure", _LOCK_OURS, campaign_id, token=token) as tx:
            if tx is not None:
                tx.campaign.claim_token = tx.campaign.claim_expires_at = None
                await tx.pause(reason)

    async def _release(self, campaign_id: str, token: str, delay_s: float, reason: str | None = None) -> None:
        """Release a campaign whose work was interrupted. Its next tick is due after a delay."""
        async with self._locked("release claim", _LOCK_OURS, campaign_id, token=token) as tx:
            if tx is not None:
                tx.campaign.claim_token = tx.campaign.claim_expires_at = None
                tx.campaign.due_at = tx.after(tx.now, delay_s)
                tx.campaign.reason = reason or tx.campaign.reason

    def _claim_end(self) -> datetime:
        return later(self._services.clock.now(), self._services.settings.engine.claim_ttl_s)

    @asynccontextmanager
    async def _claim_renewed(self, campaign_id: str, token: str) -> AsyncIterator[None]:
        """Renew a claim while the block runs."""
        renewing = asyncio.create_task(self._renew(campaign_id, token))
        try:
            yield
        finally:
            await self._services.database.cancel(renewing)

    async def _renew(self, campaign_id: str, token: str) -> None:
        while True:
            await asyncio.sleep(self._services.settings.engine.claim_ttl_s / 3)
            with errors_logged(log, "could not renew the claim on campaign %s, trying again", campaign_id):
                async with self._locked("renew claim", _LOCK_CLAIMED, campaign_id, token=token) as tx:
                    if tx is None:  # the claim was lost
                        return
                    tx.campaign.claim_expires_at = self._claim_end()


def _is_active() -> ColumnElement[bool]:
    """SQL: the campaign is in a state in which the engine works."""
    return CampaignRow.state.in_(lifecycle.ACTIVE_CAMPAIGN)


_IS_CLAIMED = CampaignRow.claim_token == given("token")
_IS_FREE = CampaignRow.claim_token.is_(None) | (CampaignRow.claim_expires_at < given("now"))
_IS_DUE = and_(CampaignRow.due_at <= given("now"), _is_active(), _IS_FREE)
"""In a prepared statement: the campaign's next tick is due, and no engine holds a claim."""
_DUE = Prepared(select(CampaignRow.id).where(_IS_DUE).order_by(CampaignRow.due_at))
_LOCK_DUE = lifecycle.locking_campaign(_IS_DUE)
_LOCK_CLAIMED = lifecycle.locking_campaign(_IS_CLAIMED)
_LOCK_OURS = lifecycle.locking_campaign(_is_active(), CampaignRow.claim_token.is_(None) | _IS_CLAIMED)
"""The engine works on the campaign, and no other engine holds a claim."""


_HANDLERS: Mapping[CampaignState, Callable[[CampaignTx], Awaitable[bool]]] = {
    CampaignState.PREPARING: preparing.prepare,
    CampaignState.INITIALIZING: preparing.initialize,
    CampaignState.RUNNING: rounds.run,
    CampaignState.FINISHING: rounds.finish,
}


async def _advance_campaign(tx: CampaignTx) -> bool:
    """Move a campaign as far as it can go now. Returns whether its round is ready to be aggregated."""
    if (missing := tx.spec.missing_plugin()) is not None:
        await tx.pause(f"{missing}; {PLUGIN_REMEDY}")
        return False
    if tx.campaign.state in lifecycle.ACTIVE_CAMPAIGN:
        tx.campaign.reason = None  # a handler that still has to wait sets it again
    while True:
        state = tx.campaign.state
        handler = _HANDLERS.get(state)
        ready = await handler(tx) if handler is not None else False
        if tx.campaign.state is state:
            return ready
