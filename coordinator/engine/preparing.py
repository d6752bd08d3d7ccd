"""From a new campaign to adapter 0: gather agents, prepare them, agree on the base model, number the clients."""

from sqlalchemy import select

from coordinator import lifecycle
from coordinator.engine.evaluation import add_evaluations
from coordinator.engine.step import Step
from coordinator.tables import AgentRow, ParticipantRow
from shared.states import AgentState, CampaignState, ParticipantState, TaskKind, TaskState
from shared.wire.jobs import Fingerprint

_NAMED = 5


async def prepare(step: Step) -> bool:
    """Ask every eligible agent to get ready; start once enough are and nobody is still at it, or time is up."""
    participants = await _invite(step)
    minimum = step.spec.selection.minimum
    if len(participants) < minimum:
        _wait_for_agents(step, len(participants))
        return False
    step.campaign.reason = None
    waiting = [p for p in participants if p.state is ParticipantState.PREPARING]
    prepared = [p for p in participants if p.state is ParticipantState.PREPARED]
    deadline = step.after(step.campaign.resumed_at, step.spec.deadline.prepare_s)
    if waiting and (step.now < deadline or len(prepared) < minimum):
        step.campaign.reason = f"waiting for {_names(waiting)} to prepare"
        if step.now < deadline:
            step.look_again_at(deadline)
        return False
    await _start(step, participants, prepared)
    return False


async def initialize(step: Step) -> bool:
    """Have one client build adapter 0 from the seed; another one where it cannot. Then the rounds begin."""
    tasks = await step.tasks(TaskKind.INIT)
    if any(task.state is TaskState.DONE for task in tasks):
        await step.move(CampaignState.RUNNING, reason=None)
        if step.spec.evaluates(0):
            await add_evaluations(step, 0)
        return False
    recent = [task for task in tasks if task.created_at >= step.campaign.resumed_at or not task.state.is_final]
    for task in recent:
        if not task.state.is_final:
            since = max(task.created_at, step.campaign.resumed_at)
            patience = step.after(since, step.spec.deadline.round_s)
            if step.now < patience:
                step.look_again_at(patience)
                return False
            await step.cancel_tasks([task])
    tried = {task.agent_id for task in recent}
    for client in (await step.clients()).values():
        if client.agent_id not in tried:
            await step.add_task(TaskKind.INIT, client.agent_id)
            step.look_again_at(step.after(step.now, step.spec.deadline.round_s))
            return False
    failures = "; ".join(str(task.failure["message"]) for task in recent if task.failure)
    await step.pause(f"no agent could build adapter 0: {failures or 'none answered in time'}")
    return False


async def _invite(step: Step) -> list[ParticipantRow]:
    """Make every active agent with the campaign's labels a participant; all participants that are still active."""
    known = {p.agent_id: p for p in await step.participants()}
    agents = (await step.session.scalars(select(AgentRow).order_by(AgentRow.name))).all()
    active = []
    for agent in agents:
        if agent.state is not AgentState.ACTIVE or not _has_labels(agent, step.spec.selection.labels):
            continue
        participant = known.get(agent.id)
        if participant is None:
            participant = ParticipantRow(
                campaign_id=step.campaign.id,
                agent_id=agent.id,
                agent_name=agent.name,
                state=ParticipantState.PREPARING,
            )
            step.session.add(participant)
            await step.add_task(TaskKind.PREPARE, agent.id)
            await step.record("agent-invited", agent=agent.name)
        active.append(participant)
    return active


def _names(participants: list[ParticipantRow]) -> str:
    """Their names; where they are many, the first few."""
    names = [participant.agent_name for participant in participants]
    if len(names) > _NAMED + 1:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return ", ".join(names)


def _has_labels(agent: AgentRow, wanted: dict[str, str]) -> bool:
    return all(agent.labels.get(label) == value for label, value in wanted.items())


def _wait_for_agents(step: Step, found: int) -> None:
    selection = step.spec.selection
    labels = ", ".join(f"{label}={value}" for label, value in selection.labels.items())
    with_labels = f" with {labels}" if labels else ""
    step.campaign.reason = f"waiting for agents: {found} of {selection.minimum}{with_labels} enrolled"


async def _start(step: Step, participants: list[ParticipantRow], prepared: list[ParticipantRow]) -> None:
    """Settle on a base model and number those who have it, or pause and say what is in the way."""
    fingerprints = [Fingerprint.model_validate(p.fingerprint) for p in prepared]
    # the most common one; of equally common ones that of the first agent by name
    agreed = max(fingerprints, key=fingerprints.count, default=None)
    for participant, own in zip(prepared, fingerprints, strict=True):
        if agreed is not None and own != agreed:
            parts = ", ".join(agreed.differences(own))
            reason = f"its base model differs from the others' in: {parts}; fetch the same revision and resume"
            await lifecycle.move(step.session, participant, ParticipantState.MISMATCHED, reason=reason)
            await step.record("agent-mismatched", agent=participant.agent_name, parts=parts)
    agreeing = [p for p in prepared if p.state is ParticipantState.PREPARED]
    minimum = step.spec.selection.minimum
    if agreed is None or len(agreeing) < minimum:
        by_reason: dict[str | None, list[ParticipantRow]] = {}
        for participant in participants:
            if participant not in agreeing:
                by_reason.setdefault(participant.reason, []).append(participant)
        reasons = "; ".join(f"{_names(those)}: {reason}" for reason, those in by_reason.items())
        await step.pause(f"{len(agreeing)} of {minimum} agents are ready. {reasons}")
        return
    for number, participant in enumerate(sorted(agreeing, key=lambda p: p.agent_name)):
        participant.client_number = number
    await _leave_out_the_late(step, participants)
    await step.move(CampaignState.INITIALIZING, fingerprint=agreed.model_dump(), reason=None)


async def _leave_out_the_late(step: Step, participants: list[ParticipantRow]) -> None:
    """Spare those who are still preparing the rest of it: clients are numbered once, at the start."""
    for participant in participants:
        if participant.state is ParticipantState.PREPARING:
            reason = "was not prepared in time, the campaign started without it"
            await lifecycle.move(step.session, participant, ParticipantState.FAILED, reason=reason)
            await step.record("agent-left-out", agent=participant.agent_name)
    await step.cancel_tasks(await step.tasks(TaskKind.PREPARE))


async def invite_again(step: Step) -> None:
    """Give the participants that failed or did not match another try, after an operator resumed."""
    for participant in await step.participants():
        if participant.state in (ParticipantState.FAILED, ParticipantState.MISMATCHED):
            await lifecycle.move(step.session, participant, ParticipantState.PREPARING, reason=None)
            await step.add_task(TaskKind.PREPARE, participant.agent_id)
