"""From a new campaign to adapter 0: gather agents, prepare them, agree on the base model, number the clients."""

from coordinator.database.tables import ParticipantRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients import joining
from coordinator.engine.evaluation import add_evaluations
from shared.events import EventType
from shared.states import CampaignState, ParticipantState, TaskKind
from shared.wire.jobs import Fingerprint


async def prepare(tx: CampaignTx) -> bool:
    """Have every eligible agent prepare. Start once all have, or at the deadline if enough have."""
    await joining.invite(tx)
    participants = await joining.active(tx)
    minimum = tx.spec.selection.minimum
    if len(participants) < minimum:
        _wait_for_agents(tx, len(participants))
        return False
    tx.campaign.reason = None
    waiting = [p for p in participants if p.state is ParticipantState.PREPARING]
    prepared = [p for p in participants if p.state is ParticipantState.PREPARED]
    deadline = tx.after(tx.campaign.resumed_at, tx.spec.deadline.prepare_s)
    if waiting and (tx.now < deadline or len(prepared) < minimum):
        tx.campaign.reason = f"waiting for {joining.names(waiting)} to prepare"
        if tx.now < deadline:
            tx.reschedule_at(deadline)
        return False
    await _start(tx, participants, prepared)
    return False


async def initialize(tx: CampaignTx) -> bool:
    """Have one client build adapter 0 from the seed, or another client if that fails. Then the rounds begin.

    They begin at once if the campaign starts from another campaign's adapter.
    """
    if tx.campaign.contract is not None:
        await tx.move(CampaignState.RUNNING, reason=None)
        if tx.spec.evaluates(0):
            await add_evaluations(tx, 0)
        return False
    tasks = await tx.tasks(TaskKind.INIT, None)
    recent = [task for task in tasks if task.created_at >= tx.campaign.resumed_at or not task.state.is_final]
    for task in recent:
        if not task.state.is_final:
            since = max(task.created_at, tx.campaign.resumed_at)
            deadline = tx.after(since, tx.spec.deadline.round_s)
            if tx.now < deadline:
                tx.reschedule_at(deadline)
                return False
            await tx.cancel_tasks([task])
    tried = {task.agent_id for task in recent}
    for client in (await tx.clients()).values():
        if client.agent_id not in tried:
            tx.add_task(TaskKind.INIT, client.agent_id)
            tx.reschedule_at(tx.after(tx.now, tx.spec.deadline.round_s))
            return False
    failures = "; ".join(str(task.failure["message"]) for task in recent if task.failure)
    await tx.pause(f"no agent could build adapter 0: {failures or 'none answered in time'}")
    return False


def _wait_for_agents(tx: CampaignTx, n_enrolled: int) -> None:
    selection = tx.spec.selection
    labels = ", ".join(f"{label}={value}" for label, value in selection.labels.items())
    with_labels = f" with {labels}" if labels else ""
    tx.campaign.reason = f"waiting for agents: {n_enrolled} of {selection.minimum}{with_labels} enrolled"


async def _start(tx: CampaignTx, participants: list[ParticipantRow], prepared: list[ParticipantRow]) -> None:
    """Agree on a base model and number the clients that have it. Pause with the reasons if they are too few."""
    fingerprints = [Fingerprint.model_validate(p.fingerprint) for p in prepared]
    if tx.campaign.fingerprint is not None:  # the campaign starts from an adapter that was trained on this base model
        agreed: Fingerprint | None = Fingerprint.model_validate(tx.campaign.fingerprint)
    else:
        # the most common one; in a tie, that of the first agent by name
        agreed = max(fingerprints, key=fingerprints.count, default=None)
    if agreed is not None:
        await joining.set_aside_mismatched(tx, prepared, agreed)
    agreeing = [p for p in prepared if p.state is ParticipantState.PREPARED]
    minimum = tx.spec.selection.minimum
    if agreed is None or len(agreeing) < minimum:
        by_reason: dict[str | None, list[ParticipantRow]] = {}
        for participant in participants:
            if participant not in agreeing:
                by_reason.setdefault(participant.reason, []).append(participant)
        reasons = "; ".join(f"{joining.names(unready)}: {reason}" for reason, unready in by_reason.items())
        await tx.pause(f"{len(agreeing)} of {minimum} agents are ready. {reasons}")
        return
    for number, participant in enumerate(sorted(agreeing, key=lambda p: p.agent_name)):
        participant.client_number, participant.joined_round = number, 1
    for participant in participants:
        if participant.state is ParticipantState.PREPARING:
            tx.record(EventType.AGENT_JOINS_LATER, agent=participant.agent_name)
    await tx.move(CampaignState.INITIALIZING, fingerprint=agreed.model_dump(), reason=None)
