"""From a new campaign to adapter 0: gather agents, prepare them, agree on the base model, number the clients."""

from coordinator.engine import joining
from coordinator.engine.evaluation import add_evaluations
from coordinator.engine.step import Step
from coordinator.tables import ParticipantRow
from shared.states import CampaignState, ParticipantState, TaskKind
from shared.wire.jobs import Fingerprint


async def prepare(step: Step) -> bool:
    """Ask every eligible agent to get ready; start once enough are and nobody is still at it, or time is up."""
    await joining.invite(step)
    participants = await joining.active(step)
    minimum = step.spec.selection.minimum
    if len(participants) < minimum:
        _wait_for_agents(step, len(participants))
        return False
    step.campaign.reason = None
    waiting = [p for p in participants if p.state is ParticipantState.PREPARING]
    prepared = [p for p in participants if p.state is ParticipantState.PREPARED]
    deadline = step.after(step.campaign.resumed_at, step.spec.deadline.prepare_s)
    if waiting and (step.now < deadline or len(prepared) < minimum):
        step.campaign.reason = f"waiting for {joining.names(waiting)} to prepare"
        if step.now < deadline:
            step.look_again_at(deadline)
        return False
    await _start(step, participants, prepared)
    return False


async def initialize(step: Step) -> bool:
    """Have one client build adapter 0 from the seed; another one where it cannot. Then the rounds begin; at once where
    the campaign started from another's adapter."""
    if step.campaign.contract is not None:
        await step.move(CampaignState.RUNNING, reason=None)
        if step.spec.evaluates(0):
            await add_evaluations(step, 0)
        return False
    tasks = await step.tasks(TaskKind.INIT, None)
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
            step.add_task(TaskKind.INIT, client.agent_id)
            step.look_again_at(step.after(step.now, step.spec.deadline.round_s))
            return False
    failures = "; ".join(str(task.failure["message"]) for task in recent if task.failure)
    await step.pause(f"no agent could build adapter 0: {failures or 'none answered in time'}")
    return False


def _wait_for_agents(step: Step, found: int) -> None:
    selection = step.spec.selection
    labels = ", ".join(f"{label}={value}" for label, value in selection.labels.items())
    with_labels = f" with {labels}" if labels else ""
    step.campaign.reason = f"waiting for agents: {found} of {selection.minimum}{with_labels} enrolled"


async def _start(step: Step, participants: list[ParticipantRow], prepared: list[ParticipantRow]) -> None:
    """Settle on a base model and number those who have it, or pause and say what is in the way."""
    fingerprints = [Fingerprint.model_validate(p.fingerprint) for p in prepared]
    if step.campaign.fingerprint is not None:  # of the base model that the adapter it starts from was trained on
        agreed: Fingerprint | None = Fingerprint.model_validate(step.campaign.fingerprint)
    else:
        # the most common one; of equally common ones that of the first agent by name
        agreed = max(fingerprints, key=fingerprints.count, default=None)
    for participant in prepared:
        if agreed is not None:
            await joining.is_apart(step, participant, agreed)
    agreeing = [p for p in prepared if p.state is ParticipantState.PREPARED]
    minimum = step.spec.selection.minimum
    if agreed is None or len(agreeing) < minimum:
        by_reason: dict[str | None, list[ParticipantRow]] = {}
        for participant in participants:
            if participant not in agreeing:
                by_reason.setdefault(participant.reason, []).append(participant)
        reasons = "; ".join(f"{joining.names(those)}: {reason}" for reason, those in by_reason.items())
        await step.pause(f"{len(agreeing)} of {minimum} agents are ready. {reasons}")
        return
    for number, participant in enumerate(sorted(agreeing, key=lambda p: p.agent_name)):
        participant.client_number, participant.joined_round = number, 1
    for participant in participants:
        if participant.state is ParticipantState.PREPARING:
            step.record("agent-joins-later", agent=participant.agent_name)
    await step.move(CampaignState.INITIALIZING, fingerprint=agreed.model_dump(), reason=None)
