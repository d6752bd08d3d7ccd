"""Stragglers: clients that are slow or fail. What happens to a train task, by its state and the campaign's policy:

    when                             task of this round                         late task of an earlier round
    -------------------------------  -----------------------------------------  -----------------------------
    enough updates, in time          done: counts                               done: counts, with less weight
                                     pending: cancelled, no failure             pending, leased: cancelled, a failure
                                     leased: goes on late, where the policy
                                     is late_updates = "next_round" and a
                                     round follows; otherwise cancelled
    deadline, minimum reached        as above, and what is cancelled is         as above
                                     a failure
    deadline, under the minimum      under_minimum = "fail": the campaign       goes on
                                     pauses
                                     "extend": pending ones are reassigned
                                     "replace": pending and leased ones are
                                     reassigned, in both cases as far as
                                     there are spare clients; new deadline
    no task left, under the minimum  clients that the round left out are        discarded, where no other client
                                     readmitted                                 is free

After ``set_aside_after`` failures in a row a client is set aside for ``set_aside_rounds`` rounds. A client whose late
task is still counted on in this round is not drawn for it.
"""

from collections.abc import Mapping, Sequence
from math import ceil

from sqlalchemy import select, update

from coordinator import lifecycle
from coordinator.database.tables import BlobUseRow, ParticipantRow, RoundRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients import joining
from shared.events import EventType
from shared.states import TaskKind, TaskState
from shared.wire.leases import Failure, FailureKind


async def eligible(tx: CampaignTx, round_number: int, clients: Mapping[int, ParticipantRow]) -> list[int]:
    """The client numbers that a round is drawn from: all but those set aside, and those with a late task.

    Where that leaves fewer than the minimum, clients that were set aside are eligible again, and where even that is not
    enough, late updates are discarded: neither may stop a campaign that could go on.
    """
    minimum = tx.spec.selection.minimum
    busy = {task.agent_id for task in await _earlier_tasks(tx, round_number)}
    ready = [number for number, client in clients.items() if client.agent_id not in busy]
    willing = [number for number in ready if (clients[number].set_aside_until or 0) < round_number]
    if len(willing) >= minimum:
        return willing
    if len(ready) >= minimum:
        return ready
    await discard_late_updates(tx, round_number)
    return list(clients)


async def readmit(tx: CampaignTx, round_row: RoundRow) -> bool:
    """Let a round that lacks clients draw from those that it left out. Returns whether there are any.

    First those that got ready since it opened or are set aside; where there are none, those with a late task, which is
    discarded.
    """
    await joining.invite(tx)
    await joining.admit(tx, round_row.number)
    left_out = {number: each for number, each in (await tx.clients()).items() if number not in round_row.eligible}
    busy = {task.agent_id for task in await _earlier_tasks(tx, round_row.number)}
    free = [number for number, client in left_out.items() if client.agent_id not in busy]
    if left_out and not free:
        await discard_late_updates(tx, round_row.number)
        free = list(left_out)
    round_row.eligible = sorted({*round_row.eligible, *free})
    return bool(free)


async def discard_late_updates(tx: CampaignTx, round_number: int) -> None:
    """Cancel or supersede all late tasks of earlier rounds, so that none of them counts in this round."""
    earlier = await _earlier_tasks(tx, round_number)
    await tx.cancel_tasks(earlier)
    for task in earlier:
        if task.state is TaskState.DONE:
            await lifecycle.move(tx.session, task, TaskState.SUPERSEDED)


async def retain_late_updates(tx: CampaignTx, round_number: int) -> None:
    """Keep the files of late updates for the round that is about to open. Those that came while the round before was
    being aggregated would otherwise be released with that round's."""
    done = [task.id for task in await _earlier_tasks(tx, round_number) if task.state is TaskState.DONE]
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
    """How many clients a round starts with: those wanted, and more by ``stragglers.over_selection``."""
    share = 1 + tx.spec.stragglers.over_selection
    # rounded, for 10 * 1.1 is a little more than 11 and would draw a further client
    return min(n_eligible, ceil(round(updates_wanted(tx, n_eligible) * share, 9)))


async def _earlier_tasks(tx: CampaignTx, round_number: int) -> Sequence[TaskRow]:
    """Late train tasks: of earlier rounds, done or still under way, whose updates have not counted yet."""
    query = select(TaskRow).where(
        TaskRow.campaign_id == tx.campaign.id,
        TaskRow.kind == TaskKind.TRAIN,
        TaskRow.state.in_((*lifecycle.LIVE_TASK, TaskState.DONE)),
        TaskRow.counts_in.is_(None),
    )
    # compared here: asked to, SQLite goes through the tasks of all rounds before
    found = (await tx.session.scalars(query.order_by(TaskRow.id))).all()
    return [task for task in found if task.round is not None and task.round < round_number]


async def freeze_updates(tx: CampaignTx, round_row: RoundRow, tasks: Sequence[TaskRow]) -> int:
    """Fix which updates count in a round, and cancel the rest or let it go on late. Returns how many count.

    tasks: the round's own train tasks. See the table above.
    """
    number = round_row.number
    earlier = await _earlier_tasks(tx, number)
    failed = await _failed_late(tx, number)
    counting = [task for task in (*tasks, *earlier) if task.state is TaskState.DONE]
    for task in counting:
        task.counts_in = number
    goes_on = tx.spec.stragglers.late_updates == "next_round" and number < tx.spec.rounds
    own = [task for task in tasks if not (goes_on and task.state is TaskState.LEASED)]
    # before the deadline the round had all that it wanted, and nobody was slow
    await tx.cancel_tasks(own, _late(number) if tx.now >= round_row.deadline_at else None)
    await tx.cancel_tasks(earlier, _late(number))
    await _tally(tx, number, [*failed, *earlier, *own])
    return len(counting)


async def reassign(tx: CampaignTx, round_row: RoundRow, live: Sequence[TaskRow], n_done: int) -> int:
    """At a deadline under the minimum: take back tasks that other clients can do instead. Returns how many."""
    replaces = tx.spec.stragglers.under_minimum == "replace"
    idle = [task for task in live if task.state is TaskState.PENDING]
    slow = [task for task in live if task.state is TaskState.LEASED and replaces]
    hopeless = [*idle, *slow]
    lacking = tx.spec.selection.minimum - n_done - (len(live) - len(hopeless))
    n_spare = await _n_spare(tx, round_row)
    while n_spare < min(lacking, len(hopeless)) and await readmit(tx, round_row):
        n_spare = await _n_spare(tx, round_row)
    taken = hopeless[:n_spare]  # without a spare client, a task may as well wait for its own
    await tx.cancel_tasks(taken, _late(round_row.number))
    tx.record(EventType.ROUND_EXTENDED, round=round_row.number, taken_back=len(taken))
    return len(taken)


async def _n_spare(tx: CampaignTx, round_row: RoundRow) -> int:
    clients = await tx.clients()
    return sum(each in clients and each not in round_row.sampled for each in round_row.eligible)


def _late(round_number: int) -> Failure:
    return Failure(kind=FailureKind.LATE, message=f"it was not done by the deadline of round {round_number}")


async def _failed_late(tx: CampaignTx, round_number: int) -> Sequence[TaskRow]:
    """Tasks of the previous round that were still under way when it closed, and failed since."""
    before = await tx.session.get(RoundRow, (tx.campaign.id, round_number - 1))
    if before is None or before.closed_at is None:
        return []
    query = select(TaskRow).where(
        TaskRow.campaign_id == tx.campaign.id,
        TaskRow.kind == TaskKind.TRAIN,
        TaskRow.round == before.number,
        TaskRow.state == TaskState.FAILED,
        TaskRow.ended_at > before.closed_at,
    )
    return (await tx.session.scalars(query)).all()


async def _tally(tx: CampaignTx, round_number: int, tasks: Sequence[TaskRow]) -> None:
    """Count each client's failures in a row, and set aside those with too many."""
    rule = tx.spec.stragglers
    last = {task.agent_id: task for task in sorted(tasks, key=lambda task: task.id)}
    for participant in await tx.participants():
        task = last.get(participant.agent_id)
        if task is None:
            continue
        if task.state is TaskState.DONE:
            participant.failures_in_a_row, participant.set_aside_until = 0, None
        elif task.failure is not None:
            participant.failures_in_a_row += 1
            if participant.failures_in_a_row >= rule.set_aside_after and rule.set_aside_rounds:
                participant.set_aside_until = round_number + rule.set_aside_rounds
                # the adapter's loss does not wait for its evaluations either
                await tx.cancel_tasks(await tx.live_tasks(TaskKind.EVALUATE, participant.agent_id))
                tx.record(
                    EventType.AGENT_SET_ASIDE,
                    agent=participant.agent_name,
                    failures=participant.failures_in_a_row,
                    until=participant.set_aside_until,
                )
