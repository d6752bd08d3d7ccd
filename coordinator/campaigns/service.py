"""What an operator can do with a campaign."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.campaigns.chains import start_from_another
from coordinator.clock import new_id
from coordinator.db import add_or_find, after_commit
from coordinator.deps import Services
from coordinator.engine.joining import invite_again
from coordinator.engine.step import Step
from coordinator.errors import Conflict, IllegalMove
from coordinator.events.log import lock_campaign, record
from coordinator.tables import CampaignRow, ParticipantRow, RoundRow, TaskRow
from shared.campaign import CampaignSpec
from shared.states import CampaignState, RoundState, TaskState


async def create(session: AsyncSession, at: Services, spec: CampaignSpec, idempotency_key: str | None) -> CampaignRow:
    """Make a campaign; with a key that was used before, give that campaign again. Raises Conflict, and Invalid where
    it cannot start from what it names."""
    said = spec.model_dump(mode="json")
    now = at.clock.now()
    campaign = CampaignRow(
        id=new_id(now),
        name=spec.name,
        spec_json=said,
        state=CampaignState.PREPARING,
        created_at=now,
        resumed_at=now,
        idempotency_key=idempotency_key,
        rounds_closed=0,
        last_event=0,
        due_at=now,
        new_agents=True,
    )
    if idempotency_key is not None:
        with_key = select(CampaignRow).where(CampaignRow.idempotency_key == idempotency_key)
        found = await add_or_find(session, campaign, with_key)
        if found is not campaign:
            if found.spec_json != said:
                message = f"this idempotency key made campaign {found.id} from another file"
                raise Conflict(message)
            return found
    session.add(campaign)
    await session.flush()
    record(session, campaign, now, "campaign-created", name=spec.name, rounds=spec.rounds)
    if spec.start_from is not None:
        await start_from_another(session, campaign, now)
    _wake(session, at, campaign.id, [])
    return campaign


async def pause(session: AsyncSession, at: Services, campaign_id: str) -> CampaignRow:
    """Stop handing out work. Work under way may be finished and is kept. Raises NotFound and IllegalMove."""
    step = await _step(session, at, campaign_id)
    if step.campaign.state not in lifecycle.ACTIVE_CAMPAIGN:
        raise IllegalMove("campaign", step.campaign.state, CampaignState.PAUSED)
    await step.pause("paused by the operator")
    _wake(session, at, campaign_id, [])
    return step.campaign


async def resume(session: AsyncSession, at: Services, campaign_id: str) -> CampaignRow:
    """Go on where the campaign was paused. Agents that could not prepare, or are set aside, get another try, deadlines
    their full time.

    Raises NotFound and IllegalMove.
    """
    step = await _step(session, at, campaign_id)
    campaign = step.campaign
    if campaign.state is not CampaignState.PAUSED or campaign.paused_from is None:
        raise IllegalMove("campaign", campaign.state, "resumed")
    back_to = campaign.paused_from
    await step.move(back_to, paused_from=None, reason=None, resumed_at=step.now, due_at=step.now)
    await invite_again(step)
    for participant in await step.participants():
        participant.failures_in_a_row, participant.set_aside_until = 0, None
    open_round = await session.scalar(
        select(RoundRow).where(RoundRow.campaign_id == campaign_id, RoundRow.state == RoundState.OPEN)
    )
    if open_round is not None:
        open_round.deadline_at = step.after(step.now, step.spec.deadline.round_s)
    waiting = await session.scalars(
        select(TaskRow.agent_id).where(TaskRow.campaign_id == campaign_id, TaskRow.state == TaskState.PENDING)
    )
    _wake(session, at, campaign_id, [*step.wake, *waiting.all()])
    return campaign


async def cancel(session: AsyncSession, at: Services, campaign_id: str) -> CampaignRow:
    """End a campaign early. Its adapters stay; the last one is the final one. Raises NotFound and IllegalMove."""
    step = await _step(session, at, campaign_id)
    campaign = step.campaign
    final = campaign.rounds_closed if campaign.contract is not None else None
    await step.move(CampaignState.CANCELLED, ended_at=step.now, reason="cancelled by the operator", final_adapter=final)
    live = await session.scalars(
        select(TaskRow).where(TaskRow.campaign_id == campaign_id, TaskRow.state.in_(lifecycle.LIVE_TASK))
    )
    await step.cancel_tasks(list(live.all()))
    unfinished = await session.scalars(
        select(RoundRow).where(
            RoundRow.campaign_id == campaign_id, RoundRow.state.in_((RoundState.OPEN, RoundState.AGGREGATING))
        )
    )
    for round_row in unfinished.all():
        await lifecycle.move(session, round_row, RoundState.CANCELLED, closed_at=step.now)
    _wake(session, at, campaign_id, [])
    return campaign


async def participants_of(session: AsyncSession, campaign_id: str) -> list[ParticipantRow]:
    """The campaign's participants by name."""
    query = select(ParticipantRow).where(ParticipantRow.campaign_id == campaign_id)
    return list((await session.scalars(query.order_by(ParticipantRow.agent_name))).all())


async def _step(session: AsyncSession, at: Services, campaign_id: str) -> Step:
    campaign = await lock_campaign(session, campaign_id)
    now: datetime = at.clock.now()
    return Step(session, campaign, campaign.spec, now)


def _wake(session: AsyncSession, at: Services, campaign_id: str, agent_ids: list[str]) -> None:
    after_commit(session, lambda: at.bells.engine.ring([""]))
    after_commit(session, lambda: at.bells.events.ring([campaign_id]))
    after_commit(session, lambda: at.bells.tasks.ring(agent_ids))
