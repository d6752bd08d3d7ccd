"""Stragglers: clients that are slow or fail. What happens to a train task depends on its state and the policy:

    when                             task of this round                         late task of an earlier round
    -------------------------------  -----------------------------------------  -----------------------------
    enough updates, in time          done: counts                               done: counts, with less weight
                                     pending: cancelled, no failure             pending, leased: cancelled, a failure
                                     leased: continues late if the policy is
                                     late_updates = "next_round" and a
                                     round follows; otherwise cancelled
    deadline, minimum reached        as above, but each cancellation counts     as above
                                     as a failure of its client
    deadline, under the minimum      under_minimum = "fail": the campaign       continues
                                     pauses
                                     "extend": pending ones are reassigned
                                     "replace": pending and leased ones are
                                     reassigned. Either way only to clients
                                     not yet drawn, with a new deadline
    no task left, under the minimum  clients that the round left out are        discarded if no other client is
                                     readmitted                                 free

An update that its owner holds is no failure of the client, whatever becomes of it. Under the minimum a round waits for
it as for a pending task: until the deadline, at which it is reassigned after the pending ones. From the minimum on
nobody waits for it: once no other task is left, the round closes, and it continues late as a leased one does, or is
cancelled. Once released it is a pending task again.

After ``set_aside_after`` failures in a row a client is set aside for ``set_aside_rounds`` rounds. A client is
not drawn for a round in which its late task may still count.
"""

from collections.abc import Mapping, Sequence
from math import ceil

from sqlalchemy import select, update

from coordinator import lifecycle
from coordinator.database.objects import Objects
from coordinator.database.prepared import given
from coordinator.database.tables import BlobUseRow, RoundRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients import joining
from coordinator.engine.participants import Client
from shared.bounds import MAX_COUNT
from shared.events import EventType
from shared.states import TaskKind, TaskState
from shared.wire.tasks.leases import Failure, FailureKind

_UNCOUNTED = Objects(
    select(TaskRow)
    .where(
        TaskRow.campaign_id == given("campaign"),
        TaskRow.kind == TaskKind.TRAIN,
        TaskRow.state.in_((*lifecycle.LIVE_TASK, TaskState.DONE)),
        TaskRow.counts_in.is_(None),
    )
    .order_by(TaskRow.id)
)
_FAILED_LATE = Objects(
    select(TaskRow)
    .join(RoundRow, (RoundRow.campaign_id == TaskRow.campaign_id) & (RoundRow.number == TaskRow.round))
    .where(
        TaskRow.campaign_id == given("campaign"),
        TaskRow.kind == TaskKind.TRAIN,
        TaskRow.round == given("round"),
        TaskRow.state == TaskState.FAILED,
        TaskRow.ended_at > RoundRow.closed_at,
    )
)


async def choose_eligible(
    tx: CampaignTx, round_number: int, clients: Mapping[int, Client], late: Sequence[TaskRow]
) -> list[int]:
    """The numbers of the clients that a round is drawn from: all except those that are set aside or have a late task.

    If fewer than the minimum are left, clients that are set aside are eligible again. If even that is not enough, late
    updates are discarded, and all clients are eligible. Neither may stall a campaign that could otherwise go on.

    Args:
        tx: the campaign's transaction.
        round_number: the round.
        clients: those that can be given tasks now, by client number.
        late: the late tasks.
    """
    minimum = tx.spec.selection.minimum
    busy = {task.agent_id for task in late}
    ready = [number for number, client in clients.items() if client.agent_id not in busy]
    active = [number for number in ready if (clients[number].set_aside_until or 0) < round_number]
    if len(active) >= minimum:
        return active
    if len(ready) >= minimum:
        return ready
    await discard_late_updates(tx, round_number)
    return list(clients)


async def readmit(tx: CampaignTx, round_row: RoundRow) -> bool:
    """Make clients that this short-handed round left out eligible after all. Returns whether there are any.

    Clients that became ready since the round opened or are set aside come first. If there are none, clients with a late
    task are eligible, and the late task is discarded.
    """
    await joining.invite(tx)
    await joining.admit(tx, round_row.number)
    left_out = {number: each for number, each in (await tx.clients()).items() if number not in round_row.eligible}
    busy = {task.agent_id for task in await late_tasks(tx, round_row.number)}
    free = [number for number, client in left_out.items() if client.agent_id not in busy]
    if left_out and not free:
        await discard_late_updates(tx, round_row.number)
        free = list(left_out)
    round_row.eligible = sorted({*round_row.eligible, *free})
    return bool(free)


async def discard_late_updates(tx: CampaignTx, round_number: int) -> None:
    """Cancel or supersede all late tasks of earlier rounds, so that none of them counts in this round."""
    earlier = await late_tasks(tx, round_number)
    await tx.cancel_tasks(earlier)
    for task in earlier:
        if task.state is TaskState.DONE:
            await lifecycle.move(tx.session, task, TaskState.SUPERSEDED)


async def retain_late_updates(tx: CampaignTx, round_number: int, late: Sequence[TaskRow]) -> None:
    """Keep the files of late updates for the round that is about to open. late: the late tasks.

    Otherwise files that arrived during the aggregation of the previous round would be released with that round's.
    """
    done = [task.id for task in late if task.state is TaskState.DONE]
    if not done:
        return
    await tx.session.execute(
        update(BlobUseRow)
        .where(BlobUseRow.task_id.in_(done))
        .values(round=round_number)
        .execution_options(synchronize_session=False)
    )


def updates_wanted(tx: CampaignTx, n_eligible: int) -> int:
    """How many updates close a round before its deadline."""
    asked = tx.spec.selection.clients_per_round
    return n_eligible if asked == "all" else min(asked, n_eligible)


def clients_to_draw(tx: CampaignTx, n_eligible: int) -> int:
    """How many clients a round starts with: the updates wanted, plus the share ``stragglers.over_selection``."""
    share = 1 + tx.spec.stragglers.over_selection
    # rounded, because 10 * 1.1 is slightly more than 11 and would draw another client
    return min(n_eligible, ceil(round(updates_wanted(tx, n_eligible) * share, 9)))


async def late_tasks(tx: CampaignTx, round_number: int) -> Sequence[TaskRow]:
    """Train tasks of rounds before this one, done or still running, whose updates have not been counted."""
    # rounds are compared here: in SQL, SQLite would scan the tasks of all earlier rounds
    tasks = await _UNCOUNTED.all(tx.session, campaign=tx.campaign.id)
    return [task for task in tasks if task.round is not None and task.round < round_number]


async def freeze_updates(tx: CampaignTx, round_row: RoundRow, tasks: Sequence[TaskRow]) -> int:
    """Fix which updates count in a round. Cancel the other tasks, or let them continue late. Returns how many count.

    tasks: the round's own train tasks. See the table above.
    """
    number = round_row.number
    earlier = await late_tasks(tx, number)
    failed = await _failed_late(tx, number)
    counting = [task for task in (*tasks, *earlier) if task.state is TaskState.DONE]
    for task in counting:
        task.counts_in = number
    late_tasks_continue = tx.spec.stragglers.late_updates == "next_round" and number < tx.campaign.last_round
    begun = (TaskState.LEASED, TaskState.HELD)
    own = [task for task in tasks if not (late_tasks_continue and task.state in begun)]
    # nobody waits for late updates, so one whose owner let it go too late for its agent to send it kept nobody waiting
    await tx.cancel_tasks([*(task for task in own if is_held(task)), *(task for task in earlier if task.held_at)])
    # if the round filled before its deadline, nobody was slow, so a cancelled task is no failure
    await tx.cancel_tasks(own, _missed_deadline(number) if tx.now >= round_row.deadline_at else None)
    await tx.cancel_tasks(earlier, _too_late(number))
    await _record_failures(tx, number, [*failed, *earlier, *own])
    return len(counting)


async def reassign(tx: CampaignTx, round_row: RoundRow, live: Sequence[TaskRow], n_done: int) -> int:
    """At a deadline with too few updates: take back as many tasks as spare clients can do. Returns how many."""
    replaces = tx.spec.stragglers.under_minimum == "replace"
    idle = [task for task in live if task.state is TaskState.PENDING]
    held = [task for task in live if is_held(task)]
    slow = [task for task in live if task.state is TaskState.LEASED and replaces]
    overdue = [*idle, *held, *slow]
    lacking = tx.spec.selection.minimum - n_done - (len(live) - len(overdue))
    n_spare = await _n_spare(tx, round_row)
    while n_spare < min(lacking, len(overdue)) and await readmit(tx, round_row):
        n_spare = await _n_spare(tx, round_row)
    taken_back = overdue[:n_spare]  # a task stays with its client if no spare client can take it
    await tx.cancel_tasks([task for task in taken_back if is_held(task)])
    await tx.cancel_tasks(taken_back, _missed_deadline(round_row.number))
    tx.record(EventType.ROUND_EXTENDED, round=round_row.number, taken_back=len(taken_back))
    return len(taken_back)


def is_held(task: TaskRow) -> bool:
    """Whether the task's owner keeps its update back now."""
    return task.state is TaskState.HELD


async def _n_spare(tx: CampaignTx, round_row: RoundRow) -> int:
    clients = await tx.clients()
    return sum(each in clients and each not in round_row.sampled for each in round_row.eligible)


def _missed_deadline(round_number: int) -> Failure:
    return Failure(kind=FailureKind.LATE, message=f"it was not done by the deadline of round {round_number}")


def _too_late(round_number: int) -> Failure:
    """The failure of a late task that is not done when the next round takes no more updates."""
    return Failure(kind=FailureKind.LATE, message=f"it was not done when round {round_number} took its last update")


async def _failed_late(tx: CampaignTx, round_number: int) -> Sequence[TaskRow]:
    """Tasks of the previous round that were still under way when it closed, and failed since."""
    return await _FAILED_LATE.all(tx.session, campaign=tx.campaign.id, round=round_number - 1)


async def _record_failures(tx: CampaignTx, round_number: int, tasks: Sequence[TaskRow]) -> None:
    """Count each client's failures in a row, and set aside those with too many."""
    rule = tx.spec.stragglers
    last = {task.agent_id: task for task in sorted(tasks, key=lambda task: task.id)}
    for participant in await tx.participants_of(last):
        task = last[participant.agent_id]
        if task.state is TaskState.DONE:
            participant.failures_in_a_row, participant.set_aside_until = 0, None
        elif task.failure is not None:
            participant.failures_in_a_row += 1
            if participant.failures_in_a_row >= rule.set_aside_after and rule.set_aside_rounds:
                participant.set_aside_until = min(round_number + rule.set_aside_rounds, MAX_COUNT)
                # evaluations must not wait for this client either
                for kind in (TaskKind.EVALUATE, TaskKind.BENCHMARK):
                    await tx.cancel_tasks(await tx.live_tasks(kind, participant.agent_id))
                tx.record(
                    EventType.AGENT_SET_ASIDE,
                    agent=participant.agent_name,
                    failures=participant.failures_in_a_row,
                    until=participant.set_aside_until,
                )
