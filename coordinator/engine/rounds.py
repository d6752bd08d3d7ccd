"""Rounds: open, replace clients, wait, close. All decisions follow from the database and the clock."""

from collections.abc import Sequence

from coordinator import lifecycle
from coordinator.database.tables import ParticipantRow, RoundRow, TaskRow
from coordinator.engine import participants, weights
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients import joining, stragglers
from coordinator.engine.evaluation import evaluating
from coordinator.engine.evaluation.deciding import why_stop
from coordinator.signing import chain
from shared.campaign.sampling import draw_order
from shared.events import EventType
from shared.states import CampaignState, RoundState, TaskKind, TaskState
from shared.wire.tasks.results import Fingerprint


async def run(tx: CampaignTx) -> bool:
    """Advance the current round. Returns whether its set of updates is fixed, so that it can be aggregated."""
    await evaluating.retry_undecided(tx)
    await evaluating.collect(tx)
    if tx.campaign.state is not CampaignState.RUNNING:
        return False
    number = tx.campaign.rounds_closed + 1
    if number < tx.campaign.last_round:  # agents invited now take part from the next round on
        await joining.invite(tx)
    newcomers = await joining.list_newcomers(tx)  # report a wrong base model now, not when the next round opens
    await joining.set_aside_mismatched(tx, newcomers, Fingerprint.model_validate(tx.campaign.fingerprint))
    round_row = await tx.round(number)
    if round_row is None:
        return False if await _is_over(tx) else await _open(tx, number)
    if round_row.state is RoundState.AGGREGATING:
        return True
    return await _advance_round(tx, round_row)


async def finish(tx: CampaignTx) -> bool:
    """Wait for the last round's evaluations, then complete the campaign with its final adapter."""
    if await evaluating.still_waits(tx):
        return False
    await tx.cancel_tasks(await tx.live_tasks(TaskKind.PREPARE))
    final = tx.campaign.rounds_closed
    await tx.move(CampaignState.COMPLETED, final_adapter=final, ended_at=tx.now, reason=tx.campaign.ends_because)
    return False


async def _is_over(tx: CampaignTx) -> bool:
    """Whether no further round opens now: the campaign stops by its own rule, or waits for what the rule needs."""
    if tx.spec.evaluation.stop is None:
        return False
    closed = tx.campaign.rounds_closed
    if await evaluating.still_waits(tx, closed):
        tx.campaign.reason = f"waits for the evaluation of adapter {closed}, by which evaluation.stop decides"
        return True
    if (reason := await why_stop(tx)) is None:
        return tx.campaign.state is not CampaignState.RUNNING
    tx.campaign.ends_after, tx.campaign.ends_because = closed, reason
    facts = {"round": closed, "rounds": tx.spec.rounds, "dropped": None, "reason": reason}
    tx.record(EventType.CAMPAIGN_ENDS_EARLY, **facts)
    await tx.cancel_tasks(await tx.live_tasks(TaskKind.TRAIN))  # late ones: no round follows in which they could count
    await stragglers.discard_late_updates(tx, closed + 2)
    await tx.move(CampaignState.FINISHING)
    await evaluating.complete_last(tx)
    return True


async def _open(tx: CampaignTx, number: int) -> bool:
    await joining.admit(tx, number)
    late = await stragglers.late_tasks(tx, number)
    await stragglers.retain_late_updates(tx, number, late)
    clients = await tx.clients()
    minimum = tx.spec.selection.minimum
    if len(clients) < minimum:
        await joining.invite(tx)
        lack = f"round {number} needs {minimum} clients, {len(clients)} are left"
        if not await joining.reschedule_for_preparing(tx, lack):
            await tx.pause(f"{lack}; enrol more agents, or resume the campaign for another try")
        return False
    eligible = await stragglers.choose_eligible(tx, number, clients, late)
    order = draw_order(tx.spec.training.seed, number, eligible)
    await weights.record_shares(tx, number, clients)
    sampled = sorted(order[: stragglers.clients_to_draw(tx, len(eligible))])
    deadline_at = tx.after(tx.now, tx.spec.deadline.round_s)
    tx.session.add(
        RoundRow(
            campaign_id=tx.campaign.id,
            number=number,
            state=RoundState.OPEN,
            opened_at=tx.now,
            deadline_at=deadline_at,
            learning_rate=tx.spec.training.learning_rate_in(number, tx.spec.rounds),
            eligible=sorted(eligible),
            sampled=sampled,
        )
    )
    for client_number in sampled:
        tx.add_task(TaskKind.TRAIN, clients[client_number].agent_id, number)
    names = [clients[each].agent_name for each in sampled]
    tx.record(EventType.ROUND_OPENED, round=number, sampled=names)
    chain.say_roster(tx.session, tx.campaign, number, names)
    tx.reschedule_at(deadline_at)
    return False


async def _advance_round(tx: CampaignTx, round_row: RoundRow) -> bool:
    tasks = await tx.tasks(TaskKind.TRAIN, round_row.number)
    n_done = sum(task.state is TaskState.DONE for task in tasks)
    live = [task for task in tasks if not task.state.is_final]
    held = [task for task in live if stragglers.is_held(task)]
    has_minimum = n_done >= tx.spec.selection.minimum
    is_over = tx.now >= round_row.deadline_at
    if n_done >= stragglers.updates_wanted(tx, len(round_row.eligible)) or (is_over and has_minimum):
        return await start_aggregating(tx, round_row, tasks)
    n_taken_back = 0
    if is_over:
        if tx.spec.stragglers.under_minimum == "fail":
            await _pause(tx, round_row, tasks, "at its deadline")
            return False
        round_row.deadline_at = tx.after(tx.now, tx.spec.deadline.round_s)
        n_taken_back = await stragglers.reassign(tx, round_row, live, n_done)
        live = [task for task in live if not task.state.is_final]
        held = [task for task in live if stragglers.is_held(task)]
    missing = stragglers.updates_wanted(tx, len(round_row.eligible)) - n_done - len(live)
    n_replaced = await _replace(tx, round_row, tasks, max(missing, n_taken_back))
    awaited = len(live) - (len(held) if has_minimum else 0) + n_replaced
    if not awaited:
        if has_minimum:
            return await start_aggregating(tx, round_row, tasks)
        if await stragglers.readmit(tx, round_row):
            return await _advance_round(tx, round_row)
        if not await joining.reschedule_for_preparing(tx, await _lack(tx, round_row, tasks, "and no client left")):
            await _pause(tx, round_row, tasks, "and no client left")
            return False
    if n_done + len(live) - len(held) + n_replaced < tx.spec.selection.minimum and held:
        tx.campaign.reason = f"{_so_far(tx, round_row, n_done)}; {await _held_by_owners(tx, held)}"
    tx.reschedule_at(round_row.deadline_at)
    return False


async def start_aggregating(tx: CampaignTx, round_row: RoundRow, tasks: Sequence[TaskRow]) -> bool:
    """Fix the set of updates and move the round to AGGREGATING. Later updates do not count in it."""
    n_updates = await stragglers.freeze_updates(tx, round_row, tasks)
    await lifecycle.move(tx.session, round_row, RoundState.AGGREGATING)
    tx.record(EventType.ROUND_AGGREGATING, round=round_row.number, updates=n_updates)
    return True


async def _pause(tx: CampaignTx, round_row: RoundRow, tasks: Sequence[TaskRow], why: str) -> None:
    """Pause for lack of updates. Resuming gives the round a new deadline and every client another try."""
    await tx.pause(await _lack(tx, round_row, tasks, why))


async def _lack(tx: CampaignTx, round_row: RoundRow, tasks: Sequence[TaskRow], why: str) -> str:
    """Describe a round's lack of updates, with those that owners hold, and the failures of its tasks since the campaign
    was last resumed."""
    n_done = sum(task.state is TaskState.DONE for task in tasks)
    lack = f"{_so_far(tx, round_row, n_done)} {why}"
    if held := [task for task in tasks if stragglers.is_held(task)]:
        lack = f"{lack}; {await _held_by_owners(tx, held)}"
    by_agent = {participant.agent_id: participant for participant in await tx.participants()}
    by_message: dict[str, dict[str, ParticipantRow]] = {}
    for task in tasks:
        if task.failure and (task.ended_at or tx.now) >= tx.campaign.resumed_at:  # the cause of earlier ones is mended
            by_message.setdefault(task.failure["message"], {})[task.agent_id] = by_agent[task.agent_id]
    failures = "; ".join(f"{joining.names([*failed.values()])}: {message}" for message, failed in by_message.items())
    return f"{lack}: {failures}" if failures else lack


def _so_far(tx: CampaignTx, round_row: RoundRow, n_done: int) -> str:
    return f"round {round_row.number} has {n_done} of at least {tx.spec.selection.minimum} updates"


async def _held_by_owners(tx: CampaignTx, held: Sequence[TaskRow]) -> str:
    """Whose updates are finished and held, in words."""
    holding = await tx.participants_of({task.agent_id for task in held})
    if len(holding) == 1:
        return f"the update of {joining.names(holding)} is held by its owner"
    return f"the updates of {joining.names(holding)} are held by their owners"


async def _replace(tx: CampaignTx, round_row: RoundRow, tasks: Sequence[TaskRow], missing: int) -> int:
    """Draw more clients for tasks that failed or were taken back. Returns how many were drawn."""
    if missing <= 0:
        return 0
    # ignore failures from before the operator resumed: their cause may be repaired
    resumed_at = tx.campaign.resumed_at
    tried = {
        task.agent_id
        for task in tasks
        if task.created_at >= resumed_at or task.state not in (TaskState.FAILED, TaskState.CANCELLED)
    }
    clients = await tx.clients()
    order = draw_order(tx.spec.training.seed, round_row.number, round_row.eligible)
    drawn = [each for each in order if each in clients and clients[each].agent_id not in tried][:missing]
    for client_number in drawn:
        tx.add_task(TaskKind.TRAIN, clients[client_number].agent_id, round_row.number)
        tx.record(EventType.CLIENT_REPLACED, round=round_row.number, agent=clients[client_number].agent_name)
    if drawn:
        round_row.sampled = sorted({*round_row.sampled, *drawn})
        names = await participants.names_of(tx.session, tx.campaign.id, round_row.sampled)
        chain.say_roster(tx.session, tx.campaign, round_row.number, names)
    return len(drawn)
