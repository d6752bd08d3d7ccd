"""Slow and failing clients: who is drawn from, what becomes of work that is late, who is set aside for some rounds."""

from collections.abc import Mapping, Sequence
from math import ceil

from sqlalchemy import select, update

from coordinator import lifecycle
from coordinator.engine import joining
from coordinator.engine.step import Step
from coordinator.tables import BlobUseRow, ParticipantRow, RoundRow, TaskRow
from shared.states import TaskKind, TaskState
from shared.wire.leases import Failure, FailureKind


async def eligible(step: Step, round_number: int, clients: Mapping[int, ParticipantRow]) -> list[int]:
    """The client numbers to draw a round from: all but those set aside, and those whose update of the round before is
    late and counts in this one.

    Where that leaves fewer than the minimum, those set aside are back, and where that is not enough late work is given
    up: neither may stop a campaign that could go on.
    """
    minimum = step.spec.selection.minimum
    busy = {task.agent_id for task in await _earlier_tasks(step, round_number)}
    ready = [number for number, client in clients.items() if client.agent_id not in busy]
    willing = [number for number in ready if (clients[number].set_aside_until or 0) < round_number]
    if len(willing) >= minimum:
        return willing
    if len(ready) >= minimum:
        return ready
    await give_up_late_work(step, round_number)
    return list(clients)


async def bring_back(step: Step, round_row: RoundRow) -> bool:
    """Let a round that lacks clients draw from those it left out; whether there is anybody.

    That is who got ready since it opened and who is set aside; where there is none of them, who is busy with late work,
    which is given up.
    """
    await joining.invite(step)
    await joining.admit(step, round_row.number)
    left_out = {number: each for number, each in (await step.clients()).items() if number not in round_row.eligible}
    busy = {task.agent_id for task in await _earlier_tasks(step, round_row.number)}
    free = [number for number, client in left_out.items() if client.agent_id not in busy]
    if left_out and not free:
        await give_up_late_work(step, round_row.number)
        free = list(left_out)
    round_row.eligible = sorted({*round_row.eligible, *free})
    return bool(free)


async def give_up_late_work(step: Step, round_number: int) -> None:
    """Have nothing count in a round that was begun before it. What its clients do in that round takes its place."""
    earlier = await _earlier_tasks(step, round_number)
    await step.cancel_tasks(earlier)
    for task in earlier:
        if task.state is TaskState.DONE:
            await lifecycle.move(step.session, task, TaskState.SUPERSEDED)


async def take_along(step: Step, round_number: int) -> None:
    """Keep the files of late updates for the round that is about to open: those that came while the one before it was
    aggregated would go with that."""
    done = [task.id for task in await _earlier_tasks(step, round_number) if task.state is TaskState.DONE]
    if not done:
        return
    await step.session.execute(
        update(BlobUseRow)
        .where(BlobUseRow.task_id.in_(done))
        .values(round=round_number)
        .execution_options(synchronize_session=False)
    )


def wanted(step: Step, n_eligible: int) -> int:
    """How many updates close a round before its deadline."""
    asked = step.spec.selection.clients_per_round
    return n_eligible if asked == "all" else min(asked, n_eligible)


def drawn(step: Step, n_eligible: int) -> int:
    """How many clients a round begins with: some more than wanted, by the campaign's over-selection."""
    share = 1 + step.spec.stragglers.over_selection
    # rounded, for 10 * 1.1 is a little more than 11 and would draw a further client
    return min(n_eligible, ceil(round(wanted(step, n_eligible) * share, 9)))


async def _earlier_tasks(step: Step, round_number: int) -> Sequence[TaskRow]:
    """Train tasks of earlier rounds whose updates came late and did not count yet, or are still to come."""
    query = select(TaskRow).where(
        TaskRow.campaign_id == step.campaign.id,
        TaskRow.kind == TaskKind.TRAIN,
        TaskRow.state.in_((*lifecycle.LIVE_TASK, TaskState.DONE)),
        TaskRow.counts_in.is_(None),
    )
    # compared here: asked to, SQLite goes through the tasks of all rounds before
    found = (await step.session.scalars(query.order_by(TaskRow.id))).all()
    return [task for task in found if task.round is not None and task.round < round_number]


async def settle(step: Step, round_row: RoundRow, tasks: Sequence[TaskRow]) -> int:
    """Fix which updates count in a round, and decide about the rest; how many count. tasks: the round's own.

    What is done counts, late updates of the round before too. What is still under way is taken back, or goes on where
    the campaign takes late updates and another round comes: work that nobody has begun does not.
    """
    number = round_row.number
    earlier = await _earlier_tasks(step, number)
    failed = await _failed_late(step, number)
    counted = [task for task in (*tasks, *earlier) if task.state is TaskState.DONE]
    for task in counted:
        task.counts_in = number
    goes_on = step.spec.stragglers.late_updates == "next_round" and number < step.spec.rounds
    own = [task for task in tasks if not (goes_on and task.state is TaskState.LEASED)]
    # before the deadline the round had what it wanted, and nobody was slow
    await step.cancel_tasks(own, _late(number) if step.now >= round_row.deadline_at else None)
    await step.cancel_tasks(earlier, _late(number))
    await _tally(step, number, [*failed, *earlier, *own])
    return len(counted)


async def take_back(step: Step, round_row: RoundRow, live: Sequence[TaskRow], n_done: int) -> int:
    """At a deadline with too few updates: take back work that somebody else can do instead; how much."""
    replaces = step.spec.stragglers.under_minimum == "replace"
    idle = [task for task in live if task.state is TaskState.PENDING]
    slow = [task for task in live if task.state is TaskState.LEASED and replaces]
    hopeless = [*idle, *slow]
    lacking = step.spec.selection.minimum - n_done - (len(live) - len(hopeless))
    n_spare = await _n_spare(step, round_row)
    while n_spare < min(lacking, len(hopeless)) and await bring_back(step, round_row):
        n_spare = await _n_spare(step, round_row)
    taken = hopeless[:n_spare]  # without anybody to do it instead, it may as well wait for its agent
    await step.cancel_tasks(taken, _late(round_row.number))
    step.record("round-extended", round=round_row.number, taken_back=len(taken))
    return len(taken)


async def _n_spare(step: Step, round_row: RoundRow) -> int:
    clients = await step.clients()
    return sum(each in clients and each not in round_row.sampled for each in round_row.eligible)


def _late(round_number: int) -> Failure:
    return Failure(kind=FailureKind.LATE, message=f"it was not done by the deadline of round {round_number}")


async def _failed_late(step: Step, round_number: int) -> Sequence[TaskRow]:
    """Tasks of the round before that were still under way when that closed, and failed."""
    before = await step.session.get(RoundRow, (step.campaign.id, round_number - 1))
    if before is None or before.closed_at is None:
        return []
    query = select(TaskRow).where(
        TaskRow.campaign_id == step.campaign.id,
        TaskRow.kind == TaskKind.TRAIN,
        TaskRow.round == before.number,
        TaskRow.state == TaskState.FAILED,
        TaskRow.ended_at > before.closed_at,
    )
    return (await step.session.scalars(query)).all()


async def _tally(step: Step, round_number: int, tasks: Sequence[TaskRow]) -> None:
    """Count each client's failures in a row, and set aside who failed too often."""
    rule = step.spec.stragglers
    last = {task.agent_id: task for task in sorted(tasks, key=lambda task: task.id)}
    for participant in await step.participants():
        task = last.get(participant.agent_id)
        if task is None:
            continue
        if task.state is TaskState.DONE:
            participant.failures_in_a_row, participant.set_aside_until = 0, None
        elif task.failure is not None:
            participant.failures_in_a_row += 1
            if participant.failures_in_a_row >= rule.set_aside_after and rule.set_aside_rounds:
                participant.set_aside_until = round_number + rule.set_aside_rounds
                # nobody waits for those either
                await step.cancel_tasks(await step.live_tasks(TaskKind.EVALUATE, participant.agent_id))
                step.record(
                    "agent-set-aside",
                    agent=participant.agent_name,
                    failures=participant.failures_in_a_row,
                    until=participant.set_aside_until,
                )
