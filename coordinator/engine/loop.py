"""The engine: claims campaigns that are due, one engine at a time for each, and moves them on.

A claim is a lease on a campaign. Its token is checked under the campaign's lock in every transaction of the engine, so
an engine that lost its claim (it slept, its clock jumped) changes nothing any more.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.blobs.retention import collect, let_go
from coordinator.deps import Services
from coordinator.engine import preparing, rounds
from coordinator.engine.closing import aggregate_round, write_down
from coordinator.engine.identity import engine_name
from coordinator.engine.step import Step
from coordinator.errors import CoordinatorError, CorruptBlob, NotFound
from coordinator.events.log import lock_campaign
from coordinator.tables import CampaignRow
from shared.adapters import AdapterError
from shared.states import CampaignState

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Campaigns that one engine moves on at the same time, so that a large aggregation holds up nobody else."""
RETRY_S = 5.0
"""Pause after an unexpected error."""


@contextmanager
def _logged(message: str, *args: object) -> Iterator[None]:
    """Log an error and go on."""
    try:
        yield
    except Exception:
        log.exception(message, *args)


class Engine:
    """Runs until it is cancelled."""

    def __init__(self, at: Services) -> None:
        self._at = at
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._name = ""

    async def run(self) -> None:
        """Claim and advance campaigns for ever. A failure of one is logged, said in its reason, and tried again."""
        held: set[asyncio.Task[None]] = set()
        with engine_name(self._at.settings.data_dir) as (name, alone), self._at.bells.engine.listen("") as bell:
            self._name = name
            if alone:
                with _logged("could not free the claims of an engine that died"):
                    await self._free_claims()
            try:
                while True:
                    await self._slots.acquire()
                    claimed = None
                    with _logged("could not look for campaigns that are due"):
                        claimed = await self._claim()
                    if claimed is not None:
                        task = asyncio.create_task(self._hold(*claimed))
                        held.add(task)
                        task.add_done_callback(held.discard)
                        continue
                    self._slots.release()
                    await bell.wait(self._at.settings.engine.poll_s)
            finally:
                await self._at.database.cancel(*held)

    async def _free_claims(self) -> None:
        """Let go of what an engine of our name claimed: it is dead, or we would not be alone."""
        async with self._at.database.write("free claims") as session:
            await session.execute(
                update(CampaignRow)
                .where(CampaignRow.claim_token.startswith(self._name))
                .values(claim_token=None, claim_expires_at=None, due_at=self._at.clock.now())
                .execution_options(synchronize_session=False)
            )

    async def _claim(self) -> tuple[str, str, datetime] | None:
        """One campaign that is due, the claim's token, and when it is due again should we die."""
        now, token = self._at.clock.now(), self._name + secrets.token_hex(12)
        expires_at = now + timedelta(seconds=self._at.settings.engine.claim_ttl_s)
        due = (
            select(CampaignRow.id)
            .where(
                CampaignRow.due_at <= now,
                CampaignRow.state.in_(lifecycle.ACTIVE_CAMPAIGN),
                CampaignRow.claim_token.is_(None) | (CampaignRow.claim_expires_at < now),
            )
            .order_by(CampaignRow.due_at)
            .limit(1)
        )
        async with self._at.database.read() as session:
            if await session.scalar(due) is None:
                return None
        claim = (
            update(CampaignRow)
            .where(CampaignRow.id == due.with_for_update(skip_locked=True).scalar_subquery())
            .values(claim_token=token, claim_expires_at=expires_at, due_at=expires_at)
            .returning(CampaignRow.id)
            .execution_options(synchronize_session=False)
        )
        async with self._at.database.write("claim") as session:
            campaign_id = await session.scalar(claim)
        return (campaign_id, token, expires_at) if campaign_id is not None else None

    async def _hold(self, campaign_id: str, token: str, due_at: datetime) -> None:
        """Advance a claimed campaign, keeping the claim alive, and let go of it."""
        keeper = asyncio.create_task(self._keep(campaign_id, token))
        next_look_at: datetime | None = self._at.clock.now() + timedelta(seconds=RETRY_S)
        try:
            next_look_at = await self._advance(campaign_id, token)
        except Exception as error:
            log.exception("campaign %s could not be moved on", campaign_id)
            what = str(error) if isinstance(error, CoordinatorError) else type(error).__name__
            with _logged("could not say so"):
                await self._say(campaign_id, token, f"the engine failed and tries again: {what}")
        finally:
            await self._at.database.cancel(keeper)
            self._slots.release()
            with _logged("could not let go of campaign %s, its claim will run out", campaign_id):
                await self._release(campaign_id, token, due_at, next_look_at)

    async def _advance(self, campaign_id: str, token: str) -> datetime | None:
        """Do what there is to do now; when to look again."""
        step, to_aggregate = await self._transaction("look", campaign_id, token, _look)
        if step is None or not to_aggregate:
            return step.next_look_at if step is not None else None
        try:
            closed = await aggregate_round(self._at, campaign_id)
        except (AdapterError, CorruptBlob, NotFound) as error:
            reason = f"the round cannot be aggregated: {error}"
            await self._transaction("give up", campaign_id, token, lambda step: _pause(step, reason))
            return None
        step, is_written = await self._transaction(
            "write down", campaign_id, token, lambda step: write_down(step, closed)
        )
        if step is None:  # whoever has the claim now makes the same bytes, and may be using ours
            return None
        if not is_written:
            for kind, ref in closed.blobs.items():
                await let_go(self._at, kind, ref.sha256)
        await collect(self._at, campaign_id)
        return step.next_look_at

    async def _transaction(
        self, name: str, campaign_id: str, token: str, work: Callable[[Step], Awaitable[object]]
    ) -> tuple[Step | None, object]:
        """Work on the locked campaign while the claim holds; wake those who got something to do."""
        async with self._claimed(name, campaign_id, token) as (session, campaign):
            if campaign is None:
                return None, None
            step = Step(session, campaign, campaign.spec, self._at.clock.now())
            result = await work(step)
        self._at.bells.tasks.ring(step.wake)
        self._at.bells.events.ring([campaign_id])
        return step, result

    @asynccontextmanager
    async def _claimed(
        self, name: str, campaign_id: str, token: str
    ) -> AsyncIterator[tuple[AsyncSession, CampaignRow | None]]:
        async with self._at.database.write(name) as session:
            campaign = await lock_campaign(session, campaign_id)
            yield session, (campaign if campaign.claim_token == token else None)

    async def _keep(self, campaign_id: str, token: str) -> None:
        ttl_s = self._at.settings.engine.claim_ttl_s
        while True:
            await asyncio.sleep(ttl_s / 3)
            with _logged("could not keep the claim on campaign %s, trying again", campaign_id):
                async with self._claimed("keep claim", campaign_id, token) as (_, campaign):
                    if campaign is not None:
                        campaign.claim_expires_at = self._at.clock.now() + timedelta(seconds=ttl_s)

    async def _say(self, campaign_id: str, token: str, reason: str) -> None:
        async with self._claimed("say", campaign_id, token) as (_, campaign):
            if campaign is not None and campaign.state in lifecycle.ACTIVE_CAMPAIGN:
                campaign.reason = reason

    async def _release(self, campaign_id: str, token: str, due_at: datetime, next_look_at: datetime | None) -> None:
        async with self._claimed("release claim", campaign_id, token) as (_, campaign):
            if campaign is None:
                return
            campaign.claim_token = campaign.claim_expires_at = None
            if campaign.due_at == due_at:
                campaign.due_at = next_look_at
            elif next_look_at is not None and campaign.due_at is not None:
                campaign.due_at = min(campaign.due_at, next_look_at)
        # what came in while we looked rang the bell in vain: the campaign was claimed
        self._at.bells.engine.ring([""])


_HANDLERS: Mapping[CampaignState, Callable[[Step], Awaitable[bool]]] = {
    CampaignState.PREPARING: preparing.prepare,
    CampaignState.INITIALIZING: preparing.initialize,
    CampaignState.RUNNING: rounds.run,
    CampaignState.FINISHING: rounds.finish,
}


async def _look(step: Step) -> bool:
    """Move a campaign on by its state, as far as it goes; whether its round is ready to be aggregated."""
    if step.campaign.state in lifecycle.ACTIVE_CAMPAIGN:
        step.campaign.reason = None  # an earlier failure's; who waits says so anew
    while True:
        state = step.campaign.state
        handler = _HANDLERS.get(state)
        ready = await handler(step) if handler is not None else False
        if step.campaign.state is state:
            return ready


async def _pause(step: Step, reason: str) -> None:
    """Pause, unless the operator paused or cancelled the campaign in the meantime."""
    if step.campaign.state in lifecycle.ACTIVE_CAMPAIGN:
        await step.pause(reason)
