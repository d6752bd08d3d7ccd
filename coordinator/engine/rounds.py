"""Rounds: open, fill, wait, close. What is decided here follows from the database and the clock alone."""

from coordinator import lifecycle
from coordinator.engine.evaluation import settle_evaluations
from coordinator.engine.step import Step
from coordinator.rounds.sampling import draw_order
from coordinator.tables import ParticipantRow, RoundRow, TaskRow
from shared.states import CampaignState, RoundState, TaskKind, TaskState


async def run(step: Step) -> bool:
    """Look after the current round. Returns True when its updates are complete and it waits to be aggregated."""
    await settle_evaluations(step)
    number = step.campaign.rounds_closed + 1
    round_row = await step.session.get(RoundRow, (step.campaign.id, number))
    if round_row is None:
        return await _open(step, number)
    if round_row.state is RoundState.AGGREGATING:
        return True
    return await _look_after(step, round_row)


async def finish(step: Step) -> bool:
    """After the last round: wait for its evaluations, then name the final adapter."""
    waiting = await settle_evaluations(step)
    tasks = await step.tasks(TaskKind.EVALUATE)
    patience = step.after(step.campaign.resumed_at, step.spec.deadline.round_s)
    if tasks:
        patience = max(patience, step.after(max(task.created_at for task in tasks), step.spec.deadline.round_s))
    if waiting and step.now < patience:
        step.look_again_at(patience)
        return False
    if waiting:
        await step.cancel_tasks(tasks)
        await settle_evaluations(step)
    final = step.campaign.rounds_closed
    await step.move(CampaignState.COMPLETED, final_adapter=final, ended_at=step.now, reason=None)
    return False


async def _open(step: Step, number: int) -> bool:
    clients = await step.clients()
    minimum = step.spec.selection.minimum
    if len(clients) < minimum:
        await step.pause(f"round {number} needs {minimum} clients, {len(clients)} are left; enrol or resume")
        return False
    order = draw_order(step.spec.training.seed, number, list(clients))
    sampled = sorted(order[: _wanted(step, len(clients))])
    deadline_at = step.after(step.now, step.spec.deadline.round_s)
    step.session.add(
        RoundRow(
            campaign_id=step.campaign.id,
            number=number,
            state=RoundState.OPEN,
            opened_at=step.now,
            deadline_at=deadline_at,
            learning_rate=step.spec.training.learning_rate_in(number, step.spec.rounds),
            eligible=sorted(clients),
            sampled=sampled,
        )
    )
    for client_number in sampled:
        await step.add_task(TaskKind.TRAIN, clients[client_number].agent_id, number)
    await step.record("round-opened", round=number, sampled=[clients[each].agent_name for each in sampled])
    step.look_again_at(deadline_at)
    return False


def _wanted(step: Step, n_eligible: int) -> int:
    asked = step.spec.selection.clients_per_round
    return n_eligible if asked == "all" else min(asked, n_eligible)


async def _look_after(step: Step, round_row: RoundRow) -> bool:
    tasks = await step.tasks(TaskKind.TRAIN, round_row.number)
    done = [task for task in tasks if task.state is TaskState.DONE]
    live = [task for task in tasks if not task.state.is_final]
    wanted = _wanted(step, len(round_row.eligible))
    minimum = step.spec.selection.minimum
    late = step.now >= round_row.deadline_at
    if len(done) >= wanted or (late and len(done) >= minimum):
        await _close_to_updates(step, round_row, tasks, len(done))
        return True
    if late:
        live = await _extend(step, round_row, live)
    missing = wanted - len(done) - len(live)
    missing -= await _replace(step, round_row, tasks, missing)
    if len(live) == 0 and missing == wanted - len(done):
        if len(done) >= minimum:
            await _close_to_updates(step, round_row, tasks, len(done))
            return True
        failures = "; ".join(str(task.failure["message"]) for task in tasks if task.failure)
        await step.pause(
            f"round {round_row.number} has {len(done)} of at least {minimum} updates and no client left: {failures}"
        )
        return False
    step.look_again_at(round_row.deadline_at)
    return False


async def _close_to_updates(step: Step, round_row: RoundRow, tasks: list[TaskRow], n_updates: int) -> None:
    """From here on the set of updates is fixed; who is not done yet is too late."""
    await step.cancel_tasks(tasks)
    await lifecycle.move(step.session, round_row, RoundState.AGGREGATING)
    await step.record("round-aggregating", round=round_row.number, updates=n_updates)


async def _extend(step: Step, round_row: RoundRow, live: list[TaskRow]) -> list[TaskRow]:
    """Too few updates at the deadline: give the round another one, and take back what nobody works on."""
    round_row.deadline_at = step.after(step.now, step.spec.deadline.round_s)
    idle = [task for task in live if task.state is TaskState.PENDING]
    clients = await step.clients()
    spare = [each for each in round_row.eligible if each in clients and each not in round_row.sampled]
    idle = idle[: len(spare)]  # without anybody to do it instead, an idle task may as well wait for its agent
    await step.cancel_tasks(idle)
    await step.record("round-extended", round=round_row.number, taken_back=len(idle))
    return [task for task in live if task not in idle]


async def _replace(step: Step, round_row: RoundRow, tasks: list[TaskRow], missing: int) -> int:
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
        await step.add_task(TaskKind.TRAIN, clients[client_number].agent_id, round_row.number)
        await step.record("client-drawn-instead", round=round_row.number, agent=clients[client_number].agent_name)
    round_row.sampled = sorted({*round_row.sampled, *found})
    return len(found)
