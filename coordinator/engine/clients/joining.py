"""Joining a campaign: enrolled agents are invited to prepare, and become clients in the round after they are ready."""

from collections.abc import Iterable, Sequence

from coordinator import lifecycle
from coordinator.client_count import recount_clients
from coordinator.database.tables import ParticipantRow
from coordinator.engine import participants as queries
from coordinator.engine.campaign_tx import CampaignTx
from shared.events import EventType
from shared.states import ParticipantState, TaskKind
from shared.wire.tasks.results import Fingerprint

_NAMED = 5


async def invite(tx: CampaignTx) -> None:
    """Make active agents with the campaign's labels participants, and give them a task to prepare.

    Agents are queried only if some enrolled since the last call: there may be thousands with other labels.
    """
    if not tx.campaign.new_agents:
        return
    tx.campaign.new_agents = False
    for agent in await queries.agents_to_invite(tx.session, tx.campaign.id, tx.spec.selection.labels):
        participant = ParticipantRow(
            campaign_id=tx.campaign.id, agent_id=agent.id, agent_name=agent.name, state=ParticipantState.PREPARING
        )
        tx.session.add(participant)
        tx.add_task(TaskKind.PREPARE, agent.id)
        tx.record(EventType.AGENT_INVITED, agent=agent.name)


async def invite_again(tx: CampaignTx) -> None:
    """Give participants that failed, mismatched or did not finish preparing another try. For campaigns that resume."""
    preparing = {task.agent_id for task in await tx.live_tasks(TaskKind.PREPARE)}
    for participant in await active(tx):
        if participant.state in (ParticipantState.FAILED, ParticipantState.MISMATCHED):
            await lifecycle.move(tx.session, participant, ParticipantState.PREPARING, reason=None)
        if participant.state is ParticipantState.PREPARING and participant.agent_id not in preparing:
            tx.add_task(TaskKind.PREPARE, participant.agent_id)


async def admit(tx: CampaignTx, round_number: int) -> None:
    """Make ready participants clients from this round on.

    Their numbers follow those of all other clients, in the order of names. A client number never changes.
    """
    ready = await list_ready(tx)
    if not ready:
        return
    highest = await queries.highest_client_number(tx.session, tx.campaign.id)
    for number, participant in enumerate(ready, 0 if highest is None else highest + 1):
        participant.client_number, participant.joined_round = number, round_number
        participant.reason = None
        tx.record(EventType.AGENT_JOINED, agent=participant.agent_name, client=number, round=round_number)
    await recount_clients(tx.session, tx.campaign)


async def list_ready(tx: CampaignTx) -> list[ParticipantRow]:
    """Participants prepared on the campaign's base model that are not clients yet, by name."""
    agreed = Fingerprint.model_validate(tx.campaign.fingerprint)
    return [each for each in await list_newcomers(tx) if Fingerprint.model_validate(each.fingerprint) == agreed]


async def list_newcomers(tx: CampaignTx) -> Sequence[ParticipantRow]:
    """Prepared participants that are not clients yet, by name."""
    return await queries.newcomers(tx.session, tx.campaign.id)


async def set_aside_mismatched(tx: CampaignTx, participants: Iterable[ParticipantRow], agreed: Fingerprint) -> None:
    """Move the participants whose base model differs from the campaign's to MISMATCHED, with the reason."""
    for participant in participants:
        own = Fingerprint.model_validate(participant.fingerprint)
        if own == agreed:
            continue
        parts = ", ".join(agreed.differences(own))
        whose = "the others'" if tx.spec.start_from is None else f"the one that {tx.spec.start_from} was trained on"
        reason = f"its base model differs from {whose} in: {parts}; fetch the same revision, then resume the campaign"
        await lifecycle.move(tx.session, participant, ParticipantState.MISMATCHED, reason=reason)
        tx.record(EventType.AGENT_MISMATCHED, agent=participant.agent_name, parts=parts)


async def reschedule_for_preparing(tx: CampaignTx, lack: str) -> bool:
    """Make a round that lacks clients wait for the agents that are preparing, and set the campaign's reason.

    The next tick is due when their time to prepare ends. Returns False if no agent is preparing within its time.
    """
    tasks = await tx.live_tasks(TaskKind.PREPARE)
    resumed_at, patience_s = tx.campaign.resumed_at, tx.spec.deadline.prepare_s
    until = max((tx.after(max(task.created_at, resumed_at), patience_s) for task in tasks), default=tx.now)
    if until <= tx.now:
        return False
    preparing = {task.agent_id for task in tasks}
    waiting = [participant for participant in await tx.participants() if participant.agent_id in preparing]
    tx.campaign.reason = f"{lack}; waiting for {names(waiting)} to prepare"
    tx.reschedule_at(until)
    return True


async def active(tx: CampaignTx) -> list[ParticipantRow]:
    """The participants whose agents are not revoked and have the campaign's labels, by name."""
    return await queries.active(tx.session, tx.campaign.id, tx.spec.selection.labels)


def names(participants: Sequence[ParticipantRow]) -> str:
    """The participants' names; if there are many, the first five and a count."""
    agent_names = [participant.agent_name for participant in participants]
    if len(agent_names) > _NAMED + 1:
        return f"{', '.join(agent_names[:_NAMED])} and {len(agent_names) - _NAMED} more"
    return ", ".join(agent_names)
