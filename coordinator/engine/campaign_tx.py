"""The engine's transaction on one campaign: the locked row, the time, and shorthands for tasks and events."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import campaign_moves, lifecycle, task_moves
from coordinator.clock import later
from coordinator.database.objects import ByKey, Objects
from coordinator.database.prepared import given
from coordinator.database.tables import AdapterRow, CampaignRow, ParticipantRow, RoundRow, TaskRow
from coordinator.engine import participants
from coordinator.engine.participants import Client
from coordinator.events.log import record
from shared.campaign.spec import CampaignSpec
from shared.events import EventType
from shared.states import CampaignState, TaskKind, TaskState
from shared.wire.tasks.leases import Failure

_ROUND, _ADAPTER = ByKey(RoundRow), ByKey(AdapterRow)
_OF_KIND = (
    select(TaskRow).where(TaskRow.campaign_id == given("campaign"), TaskRow.kind == given("kind")).order_by(TaskRow.id)
)
_VALID = _OF_KIND.where(TaskRow.state != TaskState.SUPERSEDED)
_OF_ROUND = Objects(_VALID.where(TaskRow.round == given("round")))
_OF_NO_ROUND = Objects(_VALID.where(TaskRow.round.is_(None)))
_LIVE = Objects(_OF_KIND.where(TaskRow.state.in_(lifecycle.LIVE_TASK)))
_LIVE_OF_AGENT = Objects(_OF_KIND.where(TaskRow.state.in_(lifecycle.LIVE_TASK), TaskRow.agent_id == given("agent")))


@dataclass
class CampaignTx:
    """One transaction on one locked campaign.

    wake: ids of agents with new tasks, notified after the commit. next_tick_at: when the campaign is due again; None if
    only a notification makes it due.
    """

    session: AsyncSession
    campaign: CampaignRow
    now: datetime
    wake: set[str] = field(default_factory=set)
    next_tick_at: datetime | None = None

    @property
    def spec(self) -> CampaignSpec:
        """The campaign file. Not needed to pause a campaign whose stored file cannot be read."""
        return self.campaign.spec

    def record(self, event: EventType, /, **data: Any) -> None:
        """Append an event to the campaign's log."""
        record(self.session, self.campaign, self.now, event, **data)

    async def move(self, to: CampaignState, **values: Any) -> None:
        """Move the campaign to another state, and record it."""
        await campaign_moves.move(self.session, self.campaign, self.now, to, **values)

    async def pause(self, reason: str) -> None:
        """Pause the campaign because only a person can help; ``fedloom campaign resume`` continues it."""
        await campaign_moves.pause(self.session, self.campaign, self.now, reason)

    def reschedule_at(self, at: datetime) -> None:
        """Make the campaign due at this time at the latest."""
        self.next_tick_at = at if self.next_tick_at is None else min(self.next_tick_at, at)

    def after(self, since: datetime, seconds: float) -> datetime:
        """The time *seconds* after another."""
        return later(since, seconds)

    async def round(self, number: int) -> RoundRow | None:
        """A round; None if it was not opened."""
        return await _ROUND.get(self.session, self.campaign.id, number)

    async def adapter(self, number: int) -> AdapterRow:
        """A global adapter, which exists."""
        return await _ADAPTER.get_one(self.session, self.campaign.id, number)

    async def tasks(self, kind: TaskKind, round_number: int | None) -> list[TaskRow]:
        """The tasks of one kind in one round, oldest first, without superseded ones."""
        if round_number is None:
            return await _OF_NO_ROUND.all(self.session, campaign=self.campaign.id, kind=kind)
        return await _OF_ROUND.all(self.session, campaign=self.campaign.id, kind=kind, round=round_number)

    async def live_tasks(self, kind: TaskKind, agent_id: str | None = None) -> list[TaskRow]:
        """The tasks of one kind that have not ended, in all rounds, oldest first; with *agent_id*, that agent's."""
        of = {"campaign": self.campaign.id, "kind": kind}
        if agent_id is not None:
            return await _LIVE_OF_AGENT.all(self.session, **of, agent=agent_id)
        return await _LIVE.all(self.session, **of)

    def add_task(
        self, kind: TaskKind, agent_id: str, round_number: int | None = None, benchmarks: list[str] | None = None
    ) -> None:
        """Add a pending task for an agent. benchmarks: those that it runs, if the task is to run some."""
        task_moves.add(self.session, self.now, self.campaign.id, agent_id, kind, round_number, benchmarks)
        self.wake.add(agent_id)

    async def cancel_tasks(self, tasks: Iterable[TaskRow], failure: Failure | None = None) -> None:
        """Cancel the tasks that have not ended. failure: recorded in them if their agents were too slow."""
        await task_moves.cancel(self.session, self.now, tasks, failure)

    async def participants(self) -> list[ParticipantRow]:
        """All participants, by agent name."""
        return await participants.all_of(self.session, self.campaign.id)

    async def participants_of(self, agent_ids: Collection[str]) -> list[ParticipantRow]:
        """The participants that these agents are, by agent name."""
        return await participants.of_agents(self.session, self.campaign.id, agent_ids)

    async def clients(self) -> dict[int, Client]:
        """The clients that can get tasks now, by client number: prepared and not revoked."""
        return await participants.available_clients(self.session, self.campaign.id)
