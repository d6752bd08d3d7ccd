"""The engine: looks at campaigns that are due, and moves them on.

A look is one transaction under the campaign's lock: it does what there is to do, and says when to look again. Where a
round is ready to be aggregated, the look claims the campaign, since an aggregation runs outside of any transaction. The
claim is a lease, prolonged while the aggregation lasts. Its token is checked under the lock before the outcome is
written down, so an engine that lost its claim (it slept, its clock jumped) changes nothing any more.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, select, update

from coordinator import lifecycle
from coordinator.blobs.retention import let_go, retire
from coordinator.deps import AT_ONCE, Services
from coordinator.engine import preparing, rounds
from coordinator.engine.closing import aggregate_round, write_down
from coordinator.engine.identity import engine_name
from coordinator.engine.step import Step
from coordinator.errors import CoordinatorError, CorruptBlob, NotFound
from coordinator.events.log import lock_campaign_where
from coordinator.tables import CampaignRow
from shared.adapters import AdapterError
from shared.states import CampaignState

log = logging.getLogger(__name__)

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
        self._looks, self._aggregations = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)
        self._looking: set[str] = set()
        self._due_again: set[str] = set()
        self._name = ""

    async def run(self) -> None:
        """Look at campaigns for ever. A failure of one is logged, said in its reason, and tried again."""
        working: set[asyncio.Task[None]] = set()
        with engine_name(self._at.settings.data_dir) as (name, alone), self._at.bells.engine.listen("") as bell:
            self._name = name
            if alone:
                with _logged("could not free the claims of an engine that died"):
                    await self._free_claims()
            try:
                while True:
                    with _logged("could not look for campaigns that are due"):
                        for campaign_id in await self._due():
                            task = asyncio.create_task(self._work(campaign_id))
                            working.add(task)
                            task.add_done_callback(working.discard)
                    await bell.wait(self._at.settings.engine.poll_s)
            finally:
                await self._at.database.cancel(*working)

    async def _free_claims(self) -> None:
        """Let go of what an engine of our name claimed: it is dead, or we would not be alone."""
        async with self._at.database.write("free claims") as session:
            await session.execute(
                update(CampaignRow)
                .where(CampaignRow.claim_token.startswith(self._name))
                .values(claim_token=None, claim_expires_at=None, due_at=self._at.clock.now())
                .execution_options(synchronize_session=False)
            )

    async def _due(self) -> Sequence[str]:
        """The campaigns to look at now, but for those that this engine is looking at."""
        query = select(CampaignRow.id).where(_is_due(self._at.clock.now())).order_by(CampaignRow.due_at)
        found = [campaign_id for (campaign_id,) in await self._at.database.fetch(query)]
        self._due_again.update(self._looking.intersection(found))
        return [campaign_id for campaign_id in found if campaign_id not in self._looking]

    async def _work(self, campaign_id: str) -> None:
        """Move a campaign on as far as it goes now; after an error another look comes later."""
        token = self._name + secrets.token_hex(12)
        try:
            if await self._look_at(campaign_id, token):
                async with self._claim_kept(campaign_id, token), self._aggregations:
                    await self._aggregate(campaign_id, token)
        except asyncio.CancelledError:
            with _logged("could not let go of campaign %s, its claim will run out", campaign_id):
                await self._let_go(campaign_id, token, 0)
            raise
        except Exception as error:
            log.exception("campaign %s could not be moved on", campaign_id)
            what = str(error) if isinstance(error, CoordinatorError) else type(error).__name__
            with _logged("could not say so"):
                await self._let_go(campaign_id, token, RETRY_S, f"the engine failed and tries again: {what}")

    async def _look_at(self, campaign_id: str, token: str) -> bool:
        """Do what there is to do for a campaign; whether it is claimed, because its round is ready to be aggregated."""
        self._looking.add(campaign_id)
        try:
            async with self._looks, self._locked("look", campaign_id, _is_due(self._at.clock.now())) as step:
                if step is None:  # another engine was faster
                    return False
                is_ready = await _look(step)
                campaign = step.campaign
                campaign.claim_token, campaign.claim_expires_at = None, None  # of an engine that died
                campaign.due_at = step.next_look_at
                if is_ready:
                    campaign.claim_token = token
                    campaign.claim_expires_at = campaign.due_at = self._claim_end()
            return is_ready
        finally:
            self._looking.discard(campaign_id)
            if campaign_id in self._due_again:  # by what came in meanwhile
                self._due_again.discard(campaign_id)
                self._at.bells.engine.ring([""])

    async def _aggregate(self, campaign_id: str, token: str) -> None:
        """Aggregate the round of a claimed campaign, write the outcome down, and let go of the claim."""
        try:
            closed = await aggregate_round(self._at, campaign_id)
        except (AdapterError, CorruptBlob, NotFound) as error:
            async with self._claimed("give up", campaign_id, token) as step:
                if step is not None and step.campaign.state in lifecycle.ACTIVE_CAMPAIGN:
                    await step.pause(f"the round cannot be aggregated: {error}")
            return
        async with self._claimed("write down", campaign_id, token) as step:
            if step is None:  # whoever has the claim now makes the same bytes, and may be using ours
                return
            if await write_down(step, closed):
                gone = await retire(step.session, step.campaign)
            else:
                gone = [(kind, ref.sha256) for kind, ref in closed.blobs.items()]
        await let_go(self._at, gone)

    @asynccontextmanager
    async def _locked(self, name: str, campaign_id: str, condition: ColumnElement[bool]) -> AsyncIterator[Step | None]:
        """One transaction on the locked campaign, where it fulfils the condition; wakes those who got something to
        do."""
        async with self._at.database.write(name) as session:
            campaign = await lock_campaign_where(session, campaign_id, condition)
            if campaign is None:
                yield None
                return
            before = campaign.last_event
            step = Step(session, campaign, campaign.spec, self._at.clock.now())
            yield step
        self._at.bells.tasks.ring(step.wake)
        if campaign.last_event != before:
            self._at.bells.events.ring([campaign_id])

    @asynccontextmanager
    async def _claimed(self, name: str, campaign_id: str, token: str) -> AsyncIterator[Step | None]:
        """The last transaction under a claim, which ends with it; None where the claim was lost."""
        async with self._locked(name, campaign_id, CampaignRow.claim_token == token) as step:
            yield step
            if step is not None:
                step.campaign.claim_token = step.campaign.claim_expires_at = None
                step.campaign.due_at = step.next_look_at

    async def _let_go(self, campaign_id: str, token: str, pause_s: float, reason: str | None = None) -> None:
        """Let go of a campaign that was not moved on: another look is due after a pause."""
        unclaimed = CampaignRow.claim_token.is_(None)
        is_ours = and_(_is_at_work(), unclaimed | (CampaignRow.claim_token == token))
        async with self._locked("release claim", campaign_id, is_ours) as step:
            if step is not None:
                step.campaign.claim_token = step.campaign.claim_expires_at = None
                step.campaign.due_at = step.after(step.now, pause_s)
                step.campaign.reason = reason or step.campaign.reason

    def _claim_end(self) -> datetime:
        return self._at.clock.now() + timedelta(seconds=self._at.settings.engine.claim_ttl_s)

    @asynccontextmanager
    async def _claim_kept(self, campaign_id: str, token: str) -> AsyncIterator[None]:
        """Prolong a claim again and again for the length of the block."""
        keeper = asyncio.create_task(self._keep(campaign_id, token))
        try:
            yield
        finally:
            await self._at.database.cancel(keeper)

    async def _keep(self, campaign_id: str, token: str) -> None:
        while True:
            await asyncio.sleep(self._at.settings.engine.claim_ttl_s / 3)
            with _logged("could not keep the claim on campaign %s, trying again", campaign_id):
                is_ours = CampaignRow.claim_token == token
                async with self._locked("keep claim", campaign_id, is_ours) as step:
                    if step is not None:
                        step.campaign.claim_expires_at = self._claim_end()


def _is_at_work() -> ColumnElement[bool]:
    """In SQL: the campaign is in a state in which the engine works."""
    return CampaignRow.state.in_(lifecycle.ACTIVE_CAMPAIGN)


def _is_due(now: datetime) -> ColumnElement[bool]:
    """In SQL: it is time to look at the campaign, and nobody has a claim."""
    is_free = CampaignRow.claim_token.is_(None) | (CampaignRow.claim_expires_at < now)
    return and_(CampaignRow.due_at <= now, _is_at_work(), is_free)


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
