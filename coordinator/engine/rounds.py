"""Rounds: open, fill, wait, close. What is decided here follows from the database and the clock alone."""

from collections.abc import Sequence

from coordinator import lifecycle
from coordinator.engine import joining, stragglers
from coordinator.engine.evaluation import settle_evaluations
from coordinator.engine.step import Step
from coordinator.rounds.sampling import draw_order
from coordinator.tables import ParticipantRow, RoundRow, TaskRow
from shared.states import CampaignState, RoundState, TaskKind, TaskState


async def run(step: Step) -> bool:
    """Look after the current round. Returns True when its updates are complete and it waits to be aggregated."""
    await settle_evaluations(step)
    number = step.campaign.rounds_closed + 1
    if number < step.spec.rounds:  # nobody who comes now could take part before the next round
        await joining.invite(step)
    await joining.ready(step)  # who has another base model is told at once
    round_row = await step.session.get(RoundRow, (step.campaign.id, number))
    if round_row is None:
        return await _open(step, number)
    if round_row.state is RoundState.AGGREGATING:
        return True
    return await _look_after(step, round_row)


async def finish(step: Step) -> bool:
    """After the last round: wait for its evaluations, then name the final adapter."""
    evaluations = await settle_evaluations(step)
    if evaluations:
        since = max(step.campaign.resumed_at, *(task.created_at for task in evaluations))
        patience = step.after(since, step.spec.deadline.round_s)
        if step.now < patience:
            step.look_again_at(patience)
            return False
        await step.cancel_tasks(evaluations)
        await settle_evaluations(step)
    await step.cancel_tasks(await step.live_tasks(TaskKind.PREPARE))
    final = step.campaign.rounds_closed
    await step.move(CampaignState.COMPLETED, final_adapter=final, ended_at=step.now, reason=None)
    return False


async def _open(step: Step, number: int) -> bool:
    await joining.admit(step, number)
    await stragglers.take_along(step, number)
    clients = await step.clients()
    minimum = step.spec.selection.minimum
    if len(clients) < minimum:
        await joining.invite(step)
        lack = f"round {number} needs {minimum} clients, {len(clients)} are left"
        if not await joining.wait(step, lack):
            await step.pause(f"{lack}; enrol or resume")
        return False
    eligible = await stragglers.eligible(step, number, clients)
    order = draw_order(step.spec.training.seed, number, eligible)
    sampled = sorted(order[: stragglers.drawn(step, len(eligible))])
    deadline_at = step.after(step.now, step.spec.deadline.round_s)
    step.session.add(
        RoundRow(
            campaign_id=step.campaign.id,
            number=number,
            state=RoundState.OPEN,
            opened_at=step.now,
            deadline_at=deadline_at,
            learning_rate=step.spec.training.learning_rate_in(number, step.spec.rounds),
            eligible=sorted(eligible),
            sampled=sampled,
        )
    )
    for client_number in sampled:
        step.add_task(TaskKind.TRAIN, clients[client_number].agent_id, number)
    step.record("round-opened", round=number, sampled=[clients[each].agent_name for each in sampled])
    step.look_again_at(deadline_at)
    return False


async def _look_after(step: Step, round_row: RoundRow) -> bool:
    tasks = await step.tasks(TaskKind.TRAIN, round_row.number)
    n_done = sum(task.state is TaskState.DONE for task in tasks)
    live = [task for task in tasks if not task.state.is_final]
    has_minimum = n_done >= step.spec.selection.minimum
    is_over = step.now >= round_row.deadline_at
    if n_done >= stragglers.wanted(step, len(round_row.eligible)) or (is_over and has_minimum):
        return await _close_to_updates(step, round_row, tasks)
    n_taken = 0
    if is_over:
        if step.spec.stragglers.under_minimum == "fail":
            await _give_up(step, round_row, tasks, "at its deadline")
            return False
        round_row.deadline_at = step.after(step.now, step.spec.deadline.round_s)
        n_taken = await stragglers.take_back(step, round_row, live, n_done)
        live = [task for task in live if not task.state.is_final]
    missing = stragglers.wanted(step, len(round_row.eligible)) - n_done - len(live)
    n_found = await _replace(step, round_row, tasks, max(missing, n_taken))
    if not live and not n_found:
        if has_minimum:
            return await _close_to_updates(step, round_row, tasks)
        if await stragglers.bring_back(step, round_row):
            return await _look_after(step, round_row)
        if not await joining.wait(step, await _lack(step, round_row, tasks, "and no client left")):
            await _give_up(step, round_row, tasks, "and no client left")
            return False
    step.look_again_at(round_row.deadline_at)
    return False


async def _close_to_updates(step: Step, round_row: RoundRow, tasks: Sequence[TaskRow]) -> bool:
    """From here on the set of updates is fixed; who is not done yet is too late."""
    n_updates = await stragglers.settle(step, round_row, tasks)
    await lifecycle.move(step.session, round_row, RoundState.AGGREGATING)
    step.record("round-aggregating", round=round_row.number, updates=n_updates)
    return True


async def _give_up(step: Step, round_row: RoundRow, tasks: Sequence[TaskRow], why: str) -> None:
    """Leave it to a person: a campaign that is resumed gives the round another deadline and everybody another try."""
    await step.pause(await _lack(step, round_row, tasks, why))


async def _lack(step: Step, round_row: RoundRow, tasks: Sequence[TaskRow], why: str) -> str:
    n_done = sum(task.state is TaskState.DONE for task in tasks)
    lack = f"round {round_row.number} has {n_done} of at least {step.spec.selection.minimum} updates {why}"
    by_agent = {participant.agent_id: participant for participant in await step.participants()}
    by_message: dict[str, dict[str, ParticipantRow]] = {}
    for task in tasks:
        if task.failure:
            by_message.setdefault(task.failure["message"], {})[task.agent_id] = by_agent[task.agent_id]
    failures = "; ".join(f"{joining.names([*those.values()])}: {message}" for message, those in by_message.items())
    return f"{lack}: {failures}" if failures else lack


async def _replace(step: Step, round_row: RoundRow, tasks: Sequence[TaskRow], missing: int) -> int:
    """Draw further clients for work that failed or was taken back; how many were found."""
    if missing <= 0:
        return 0
    # a failure from before the operator resumed does not count: whatever was wrong may be mended
    resumed_at = step.campaign.resumed_at
    tried = {
        task.agent_id
        for task in tasks
        if task.created_at >= resumed_at or task.state not in (TaskState.FAILED, TaskState.CANCELLED)
    }
    clients: dict[int, ParticipantRow] = await step.clients()
    order = draw_order(step.spec.training.seed, round_row.number, round_row.eligible)
    found = [each for each in order if each in clients and clients[each].agent_id not in tried][:missing]
    for client_number in found:
        step.add_task(TaskKind.TRAIN, clients[client_number].agent_id, round_row.number)
        step.record("client-drawn-instead", round=round_row.number, agent=clients[client_number].agent_name)
    round_row.sampled = sorted({*round_row.sampled, *found})
    return len(found)
