"""Who takes part: agents are invited once they are enrolled, and are clients from the round after they are ready."""

from sqlalchemy import exists, func, select

from coordinator import lifecycle
from coordinator.engine.step import Step
from coordinator.tables import AgentRow, ParticipantRow
from shared.states import AgentState, ParticipantState, TaskKind
from shared.wire.jobs import Fingerprint


async def invite(step: Step) -> None:
    """Make active agents with the campaign's labels participants, those that are none yet, and have them prepare."""
    takes_part = exists().where(ParticipantRow.campaign_id == step.campaign.id, ParticipantRow.agent_id == AgentRow.id)
    query = select(AgentRow).where(AgentRow.state == AgentState.ACTIVE, ~takes_part).order_by(AgentRow.name)
    for agent in (await step.session.scalars(query)).all():
        if not has_labels(agent, step.spec.selection.labels):
            continue
        participant = ParticipantRow(
            campaign_id=step.campaign.id, agent_id=agent.id, agent_name=agent.name, state=ParticipantState.PREPARING
        )
        step.session.add(participant)
        await step.add_task(TaskKind.PREPARE, agent.id)
        await step.record("agent-invited", agent=agent.name)


async def invite_again(step: Step) -> None:
    """Give the participants that failed or did not match another try, after an operator resumed."""
    for participant in await step.participants():
        if participant.state in (ParticipantState.FAILED, ParticipantState.MISMATCHED):
            await lifecycle.move(step.session, participant, ParticipantState.PREPARING, reason=None)
            await step.add_task(TaskKind.PREPARE, participant.agent_id)


async def admit(step: Step, round_number: int) -> None:
    """Make those who got ready since the campaign began clients from this round on, on the campaign's base model only.

    They are numbered after all others, in the order of their names; a number never changes.
    """
    agreed = Fingerprint.model_validate(step.campaign.fingerprint)
    highest = select(func.max(ParticipantRow.client_number)).where(ParticipantRow.campaign_id == step.campaign.id)
    taken = await step.session.scalar(highest)
    number = -1 if taken is None else taken
    for participant in await step.participants():
        if participant.state is not ParticipantState.PREPARED or participant.client_number is not None:
            continue
        if await is_apart(step, participant, agreed):
            continue
        number += 1
        participant.client_number, participant.joined_round = number, round_number
        participant.reason = None
        await step.record("agent-joined", agent=participant.agent_name, client=number, round=round_number)


async def is_apart(step: Step, participant: ParticipantRow, agreed: Fingerprint) -> bool:
    """Whether a prepared participant has another base model than the campaign; it is then told so, and left out."""
    own = Fingerprint.model_validate(participant.fingerprint)
    if own == agreed:
        return False
    parts = ", ".join(agreed.differences(own))
    reason = f"its base model differs from the others' in: {parts}; fetch the same revision and resume"
    await lifecycle.move(step.session, participant, ParticipantState.MISMATCHED, reason=reason)
    await step.record("agent-mismatched", agent=participant.agent_name, parts=parts)
    return True


def has_labels(agent: AgentRow, wanted: dict[str, str]) -> bool:
    """Whether an agent's labels include all that are wanted."""
    return all(agent.labels.get(label) == value for label, value in wanted.items())
