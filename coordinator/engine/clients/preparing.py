"""From a new campaign to adapter 0: gather agents, prepare them, agree on the base model, number the clients."""

from collections.abc import Iterator, Sequence

from coordinator.client_count import recount_clients
from coordinator.database.tables import ParticipantRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients import joining
from coordinator.engine.evaluation import evaluating
from shared.events import EventType
from shared.states import CampaignState, ParticipantState, TaskKind
from shared.wire.tasks.results import Fingerprint

P = ParticipantState


async def prepare(tx: CampaignTx) -> bool:
    """Have every eligible agent prepare. Start once all have, or at the deadline if enough have."""
    await joining.invite(tx)
    active = await joining.active(tx)
    participants = [each for each in active if each.state is not P.LEFT]
    minimum = tx.spec.selection.minimum
    if len(participants) < minimum:
        tx.campaign.reason = _too_few(tx, len(participants), [each for each in active if each.state is P.LEFT])
        return False
    tx.campaign.reason = None
    preparing = [p for p in participants if p.state is P.PREPARING]
    asked = [p for p in participants if p.state is P.WAITING]
    paused = [p for p in participants if p.state is P.PAUSED]
    prepared = [p for p in participants if p.state is P.PREPARED]
    deadline = tx.after(tx.campaign.resumed_at, tx.spec.deadline.prepare_s)
    if (preparing or asked or paused) and (tx.now < deadline or len(prepared) < minimum):
        tx.campaign.reason = "; ".join(_awaited(preparing, asked, paused))
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
        await evaluating.begin(tx, 0)
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
            tx.campaign.reason = None
            tx.reschedule_at(tx.after(tx.now, tx.spec.deadline.round_s))
            return False
    absent = [p for p in await tx.participants() if p.client_number is not None and p.state is not P.PREPARED]
    is_back = any(p.state is P.PREPARING for p in absent)  # its owner let it in again
    if is_back and await joining.reschedule_for_preparing(tx, "no client is ready to build adapter 0"):
        return False
    failures = [str(task.failure["message"]) for task in recent if task.failure]
    absences = [f"{p.agent_name}: {p.reason}" for p in absent if p.reason]
    await tx.pause(f"no agent could build adapter 0: {'; '.join(failures or absences) or 'none answered in time'}")
    return False


def _awaited(
    preparing: Sequence[ParticipantRow], asked: Sequence[ParticipantRow], paused: Sequence[ParticipantRow]
) -> Iterator[str]:
    if preparing:
        yield f"waiting for {joining.names(preparing)} to prepare"
    if asked:
        yield f"waiting for {_owners(asked)} to accept the campaign"
    if paused:
        yield f"waiting for {_owners(paused)}, who paused"


def _owners(participants: Sequence[ParticipantRow]) -> str:
    return f"the owner{'' if len(participants) == 1 else 's'} of {joining.names(participants)}"


def _too_few(tx: CampaignTx, n_active: int, left: Sequence[ParticipantRow]) -> str:
    """Why a campaign cannot begin: agents are not enrolled, or their owners do not want to take part.

    Args:
        tx: the campaign.
        n_active: how many agents may still take part.
        left: the agents whose owners refused or left.
    """
    selection = tx.spec.selection
    labels = ", ".join(f"{label}={value}" for label, value in selection.labels.items())
    with_labels = f" with {labels}" if labels else ""
    if left:
        return f"{n_active} of {selection.minimum} agents{with_labels} can take part; {_reasons(left)}"
    return f"waiting for agents: {n_active} of {selection.minimum}{with_labels} enrolled"


def _reasons(participants: Sequence[ParticipantRow]) -> str:
    """The reasons of participants, each with the names of those that have it."""
    by_reason: dict[str | None, list[ParticipantRow]] = {}
    for participant in participants:
        by_reason.setdefault(participant.reason, []).append(participant)
    return "; ".join(f"{joining.names(unready)}: {reason}" for reason, unready in by_reason.items())


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
    agreeing = [p for p in prepared if p.state is P.PREPARED]
    minimum = tx.spec.selection.minimum
    if agreed is None or len(agreeing) < minimum:
        reasons = _reasons([each for each in participants if each not in agreeing])
        await tx.pause(f"{len(agreeing)} of {minimum} agents are ready. {reasons}")
        return
    for number, participant in enumerate(sorted(agreeing, key=lambda p: p.agent_name)):
        participant.client_number, participant.joined_round = number, 1
    await recount_clients(tx.session, tx.campaign)
    for participant in participants:
        if participant.state in (P.PREPARING, P.WAITING, P.PAUSED):
            tx.record(EventType.AGENT_JOINS_LATER, agent=participant.agent_name)
    await tx.move(CampaignState.INITIALIZING, fingerprint=agreed.model_dump(), reason=None)
