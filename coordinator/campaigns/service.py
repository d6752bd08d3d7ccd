"""Operators' actions on campaigns."""

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.campaigns.chains import start_from_another
from coordinator.database.ids import new_id
from coordinator.database.sessions import add_or_find
from coordinator.database.tables import AdapterRow, CampaignRow, RoundRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients.joining import invite_again
from coordinator.engine.finishing import end_early
from coordinator.errors import Conflict, IllegalMove
from coordinator.events.log import record
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from coordinator.signing import chain
from shared.campaign.spec import CampaignSpec
from shared.events import EventType
from shared.states import CampaignState, RoundState, TaskState


async def create(
    session: AsyncSession, services: Services, spec: CampaignSpec, idempotency_key: str | None
) -> CampaignRow:
    """Create a campaign. With an idempotency key that was used before, return that campaign instead.

    Raises Conflict if the key was used with another file, and Invalid if the campaign cannot start from the adapter it
    names.
    """
    spec_json = spec.model_dump(mode="json")
    now = services.clock.now()
    campaign = CampaignRow(
        id=new_id(now),
        name=spec.name,
        spec_json=spec_json,
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
        existing = await add_or_find(session, campaign, with_key)
        if existing is not campaign:
            if not _is_from(existing.spec_json, spec_json):
                message = f"this idempotency key created campaign {existing.id} from another file; use another key"
                raise Conflict(message)
            return existing
    session.add(campaign)
    await session.flush()
    record(session, campaign, now, EventType.CAMPAIGN_CREATED, name=spec.name, rounds=spec.rounds)
    if spec.start_from is not None:
        await start_from_another(session, services.storage, campaign, now)
    chain.say_specification(session, campaign)
    if spec.start_from is not None:
        start = await session.get_one(AdapterRow, (campaign.id, 0))
        chain.say_adapter(session, campaign, 0, start.sha256)
    services.notifiers.after_commit(session, campaign_id=campaign.id)
    return campaign


def _is_from(created: dict[str, Any], requested: dict[str, Any]) -> bool:
    """Whether a campaign was created from this file: creating it adds the digest of its start."""
    filled = {"start_sha256": requested["start_sha256"] or created["start_sha256"]}
    return created == requested | filled


async def pause(session: AsyncSession, services: Services, campaign_id: str) -> CampaignRow:
    """Stop granting leases. Tasks under way may finish, and their results count. Raises NotFound and IllegalMove."""
    tx = await _locked_tx(session, services, campaign_id)
    if tx.campaign.state not in lifecycle.ACTIVE_CAMPAIGN:
        raise IllegalMove("campaign", tx.campaign.state, CampaignState.PAUSED)
    await tx.pause("paused by the operator")
    services.notifiers.after_commit(session, campaign_id=campaign_id)
    return tx.campaign


async def resume(session: AsyncSession, services: Services, campaign_id: str) -> CampaignRow:
    """Continue a paused campaign. Raises NotFound and IllegalMove.

    Agents that failed to prepare or were set aside get another try, and deadlines start again.
    """
    tx = await _locked_tx(session, services, campaign_id)
    campaign = tx.campaign
    if campaign.state is not CampaignState.PAUSED or campaign.paused_from is None:
        raise IllegalMove("campaign", campaign.state, "resumed")
    back_to = campaign.paused_from
    await tx.move(back_to, paused_from=None, reason=None, resumed_at=tx.now, due_at=tx.now)
    await invite_again(tx)
    for participant in await tx.participants():
        participant.failures_in_a_row, participant.set_aside_until = 0, None
    open_round = await session.scalar(
        select(RoundRow).where(RoundRow.campaign_id == campaign_id, RoundRow.state == RoundState.OPEN)
    )
    if open_round is not None:
        open_round.deadline_at = tx.after(tx.now, tx.spec.deadline.round_s)
    waiting = await session.scalars(
        select(TaskRow.agent_id).where(TaskRow.campaign_id == campaign_id, TaskRow.state == TaskState.PENDING)
    )
    services.notifiers.after_commit(session, campaign_id=campaign_id, agent_ids=[*tx.wake, *waiting.all()])
    return campaign


async def cancel(session: AsyncSession, services: Services, campaign_id: str) -> CampaignRow:
    """End a campaign at once. Its adapters stay, and the last one is final. Raises NotFound and IllegalMove."""
    tx = await _locked_tx(session, services, campaign_id)
    campaign = tx.campaign
    final = campaign.rounds_closed if campaign.contract is not None else None
    await tx.move(CampaignState.CANCELLED, ended_at=tx.now, reason="cancelled by the operator", final_adapter=final)
    live = await session.scalars(
        select(TaskRow).where(TaskRow.campaign_id == campaign_id, TaskRow.state.in_(lifecycle.LIVE_TASK))
    )
    await tx.cancel_tasks(list(live.all()))
    unfinished = await session.scalars(
        select(RoundRow).where(
            RoundRow.campaign_id == campaign_id, RoundRow.state.in_((RoundState.OPEN, RoundState.AGGREGATING))
        )
    )
    for round_row in unfinished.all():
        await lifecycle.move(session, round_row, RoundState.CANCELLED, closed_at=tx.now)
    services.notifiers.after_commit(session, campaign_id=campaign_id)
    return campaign


async def finish(session: AsyncSession, services: Services, campaign_id: str) -> CampaignRow:
    """End a campaign early with the adapter that it has; its evaluations follow, as at the end that was planned.

    Raises NotFound, IllegalMove and NothingToFinish.
    """
    tx = await _locked_tx(session, services, campaign_id)
    await end_early(tx)
    waiting = await session.scalars(
        select(TaskRow.agent_id).where(TaskRow.campaign_id == campaign_id, TaskRow.state == TaskState.PENDING)
    )
    services.notifiers.after_commit(session, campaign_id=campaign_id, agent_ids=[*tx.wake, *waiting.all()])
    return tx.campaign


async def _locked_tx(session: AsyncSession, services: Services, campaign_id: str) -> CampaignTx:
    campaign = await lock_campaign(session, campaign_id)
    now: datetime = services.clock.now()
    return CampaignTx(session, campaign, now)
