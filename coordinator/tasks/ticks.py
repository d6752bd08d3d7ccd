"""Which ends of tasks the engine has to look at: a tick reads the whole round, and hundreds of results may come in one.

A result that leaves the round, or the campaign's preparation, waiting for others changes nothing that a tick decides.
All are counted under the campaign's lock, so the last one of them is known to be the last.
"""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.prepared import Prepared, Transaction, given
from coordinator.database.tables import CampaignRow, TaskRow
from coordinator.services import Services
from coordinator.tasks.facts import CampaignFacts, TaskFacts
from shared.states import CampaignState, TaskKind, TaskState

GATHER_S = 0.5
"""Seconds within which a tick looks at what nothing waits for: it says in words who is still awaited."""

_OF_ROUND = (TaskRow.campaign_id == given("campaign"), TaskRow.round == given("round"))
_TRAINING = Prepared(
    select(TaskRow.state, func.count())
    .where(
        *_OF_ROUND,
        TaskRow.kind == TaskKind.TRAIN,
        TaskRow.state.in_((*lifecycle.OPEN_TASK, TaskState.DONE)),
        TaskRow.counts_in.is_(None),  # for SQLite's sake, which would look through all rounds otherwise
    )
    .group_by(TaskRow.state)
)
_IS_EVALUATING = Prepared(
    select(TaskRow.id)
    .where(
        *_OF_ROUND,
        TaskRow.kind.in_((TaskKind.EVALUATE, TaskKind.BENCHMARK)),
        TaskRow.state.in_(lifecycle.LIVE_TASK),
    )
    .limit(1)
)
_IS_PREPARING = Prepared(
    select(TaskRow.id)
    .where(
        TaskRow.campaign_id == given("campaign"),
        TaskRow.kind == TaskKind.PREPARE,
        TaskRow.state.in_(lifecycle.LIVE_TASK),
    )
    .limit(1)
)


async def result_came(
    within: AsyncSession | Transaction,
    services: Services,
    campaign: CampaignRow | CampaignFacts,
    task: TaskRow | TaskFacts,
    now: datetime,
) -> None:
    """Make the campaign of a task that is done due, if there is something to do. Wake watchers after the commit.

    Args:
        within: the transaction, in which the campaign is locked.
        services: with the notifiers.
        campaign: the task's.
        task: has ended with its result.
        now: the time.
    """
    awaits_others = await _awaits_others(within, campaign, task)
    services.notifiers.after_commit(within, campaign_id=campaign.id, engine=not awaits_others)
    if not awaits_others:
        make_due(campaign, now)
    elif campaign.reason is not None:  # it may say who is awaited
        make_due(campaign, now + timedelta(seconds=GATHER_S))


def make_due(campaign: CampaignRow | CampaignFacts, at: datetime) -> None:
    """Have the engine tick a locked campaign at a time, unless it is due before. It is stored with the next event."""
    if campaign.due_at is None or campaign.due_at > at:
        campaign.due_at = at


async def _awaits_others(
    within: AsyncSession | Transaction, campaign: CampaignRow | CampaignFacts, task: TaskRow | TaskFacts
) -> bool:
    """Whether a task that is done leaves everything as it was: what it belongs to waits for other tasks."""
    match campaign.state, task.kind:
        case CampaignState.RUNNING, TaskKind.TRAIN if task.round == campaign.rounds_closed + 1:
            of_round = {"campaign": campaign.id, "round": task.round}
            counts: dict[TaskState, int] = dict(await _TRAINING.rows(within, **of_round))
            wanted = campaign.spec.selection.clients_per_round
            # all that are eligible were drawn if all are wanted, or fewer are eligible than are wanted
            is_full = wanted != "all" and counts.get(TaskState.DONE, 0) >= wanted
            return not is_full and any(counts.get(state) for state in lifecycle.OPEN_TASK)
        case CampaignState.RUNNING | CampaignState.FINISHING, TaskKind.EVALUATE:
            return bool(await _IS_EVALUATING.rows(within, campaign=campaign.id, round=task.round))
        case CampaignState.PREPARING, TaskKind.PREPARE:
            return bool(await _IS_PREPARING.rows(within, campaign=campaign.id))
    return False
