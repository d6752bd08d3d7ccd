"""Who takes part: agents are invited once they are enrolled, and are clients from the round after they are ready."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, exists, func, select, true

from coordinator import lifecycle
from coordinator.engine.step import Step
from coordinator.tables import AgentRow, ParticipantRow, TaskRow
from shared.states import AgentState, ParticipantState, TaskKind
from shared.wire.jobs import Fingerprint

_NAMED = 5


async def invite(step: Step) -> None:
    """Make active agents with the campaign's labels participants, those that are none yet, and have them prepare.

    Agents are looked at only where some enrolled since the last time: there may be many, and none for this campaign.
    """
    if not step.campaign.new_agents:
        return
    step.campaign.new_agents = False
    takes_part = exists().where(ParticipantRow.campaign_id == step.campaign.id, ParticipantRow.agent_id == AgentRow.id)
    query = select(AgentRow).where(AgentRow.state == AgentState.ACTIVE, ~takes_part, _has_labels(step))
    for agent in (await step.session.scalars(query.order_by(AgentRow.name))).all():
        participant = ParticipantRow(
            campaign_id=step.campaign.id, agent_id=agent.id, agent_name=agent.name, state=ParticipantState.PREPARING
        )
        step.session.add(participant)
        step.add_task(TaskKind.PREPARE, agent.id)
        step.record("agent-invited", agent=agent.name)


async def invite_again(step: Step) -> None:
    """Give the participants that failed, did not match, or were not ready when the campaign ended another try, after an
    operator resumed."""
    at_it = {task.agent_id for task in await _unfinished(step)}
    for participant in await active(step):
        if participant.state in (ParticipantState.FAILED, ParticipantState.MISMATCHED):
            await lifecycle.move(step.session, participant, ParticipantState.PREPARING, reason=None)
        if participant.state is ParticipantState.PREPARING and participant.agent_id not in at_it:
            step.add_task(TaskKind.PREPARE, participant.agent_id)


async def admit(step: Step, round_number: int) -> None:
    """Make those who got ready since the campaign began clients from this round on, on the campaign's base model only.

    They are numbered after all others, in the order of their names; a number never changes.
    """
    highest = select(func.max(ParticipantRow.client_number)).where(ParticipantRow.campaign_id == step.campaign.id)
    taken = await step.session.scalar(highest)
    number = -1 if taken is None else taken
    for participant in await ready(step):
        number += 1
        participant.client_number, participant.joined_round = number, round_number
        participant.reason = None
        step.record("agent-joined", agent=participant.agent_name, client=number, round=round_number)


async def ready(step: Step) -> list[ParticipantRow]:
    """Those who got ready since the campaign began, on its base model, by name; who has another one is told so."""
    query = (
        select(ParticipantRow)
        .join(AgentRow, AgentRow.id == ParticipantRow.agent_id)
        .where(
            ParticipantRow.campaign_id == step.campaign.id,
            ParticipantRow.state == ParticipantState.PREPARED,
            ParticipantRow.client_number.is_(None),
            AgentRow.state == AgentState.ACTIVE,
        )
        .order_by(AgentRow.name)
    )
    agreed = Fingerprint.model_validate(step.campaign.fingerprint)
    found = (await step.session.scalars(query)).all()
    return [participant for participant in found if not await is_apart(step, participant, agreed)]


async def wait(step: Step, why: str) -> bool:
    """Wait for those who are getting ready, where a round lacks clients; False where nobody is, or not in time."""
    tasks = await _unfinished(step)
    resumed_at, patience_s = step.campaign.resumed_at, step.spec.deadline.prepare_s
    until = max((step.after(max(task.created_at, resumed_at), patience_s) for task in tasks), default=step.now)
    if until <= step.now:
        return False
    at_it = {task.agent_id for task in tasks}
    waiting = [participant for participant in await step.participants() if participant.agent_id in at_it]
    step.campaign.reason = f"{why}; waiting for {names(waiting)} to prepare"
    step.look_again_at(until)
    return True


async def is_apart(step: Step, participant: ParticipantRow, agreed: Fingerprint) -> bool:
    """Whether a prepared participant has another base model than the campaign; it is then told so, and left out."""
    own = Fingerprint.model_validate(participant.fingerprint)
    if own == agreed:
        return False
    parts = ", ".join(agreed.differences(own))
    whose = "the others'" if step.spec.start_from is None else f"the one that {step.spec.start_from} was trained on"
    reason = f"its base model differs from {whose} in: {parts}; fetch the same revision; resuming asks again"
    await lifecycle.move(step.session, participant, ParticipantState.MISMATCHED, reason=reason)
    step.record("agent-mismatched", agent=participant.agent_name, parts=parts)
    return True


async def active(step: Step) -> list[ParticipantRow]:
    """The participants whose agents are not revoked, and still have the campaign's labels, by name."""
    query = (
        select(ParticipantRow)
        .join(AgentRow, AgentRow.id == ParticipantRow.agent_id)
        .where(ParticipantRow.campaign_id == step.campaign.id, AgentRow.state == AgentState.ACTIVE, _has_labels(step))
        .order_by(AgentRow.name)
    )
    return list((await step.session.scalars(query)).all())


async def _unfinished(step: Step) -> list[TaskRow]:
    return await step.live_tasks(TaskKind.PREPARE)


def names(participants: Sequence[ParticipantRow]) -> str:
    """Their names; where they are many, the first few."""
    found = [participant.agent_name for participant in participants]
    if len(found) > _NAMED + 1:
        return f"{', '.join(found[:_NAMED])} and {len(found) - _NAMED} more"
    return ", ".join(found)


def _has_labels(step: Step) -> ColumnElement[bool]:
    """That an agent's labels include all that the campaign wants."""
    wanted = step.spec.selection.labels.items()
    return and_(true(), *(AgentRow.labels[label].as_string() == value for label, value in wanted))
