"""Ends a campaign early, with the adapter that it has."""

from coordinator import lifecycle
from coordinator.database.tables import RoundRow, TaskRow
from coordinator.engine import rounds
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients import stragglers
from coordinator.engine.evaluation import evaluating
from coordinator.errors import IllegalMove, NothingToFinish
from shared.events import EventType
from shared.states import CampaignState, RoundState, TaskKind, TaskState


async def end_early(tx: CampaignTx) -> None:
    """Have a campaign finish with its open round if that has enough updates now, otherwise with its last closed one.

    Changes nothing if the campaign is finishing already, or is completed. Raises IllegalMove for a cancelled one, and
    NothingToFinish if no round has made an adapter.
    """
    campaign = tx.campaign
    is_paused = campaign.state is CampaignState.PAUSED
    at_work_in = campaign.paused_from if is_paused else campaign.state
    if at_work_in in (CampaignState.PREPARING, CampaignState.INITIALIZING):
        raise NothingToFinish(campaign.name, f"it is {at_work_in}")
    if campaign.state is CampaignState.CANCELLED:
        raise IllegalMove("campaign", campaign.state, "finished")
    if at_work_in is CampaignState.FINISHING and is_paused:
        await _continue(tx, CampaignState.FINISHING)
    if at_work_in is not CampaignState.RUNNING or (campaign.ends_after is not None and not is_paused):
        return
    number = campaign.rounds_closed + 1
    open_round = await tx.round(number)
    tasks = await tx.tasks(TaskKind.TRAIN, number)
    if open_round is not None and _counts(tx, open_round, tasks):
        await _end_after(tx, open_round, tasks)
    elif campaign.rounds_closed:
        await _end_before(tx, open_round)
    else:
        raise NothingToFinish(campaign.name, _lack(tx, tasks))


def _counts(tx: CampaignTx, round_row: RoundRow, tasks: list[TaskRow]) -> bool:
    """Whether a round makes an adapter: its updates are fixed already, or it has the minimum now."""
    return round_row.state is RoundState.AGGREGATING or _n_done(tasks) >= tx.spec.selection.minimum


async def _end_after(tx: CampaignTx, round_row: RoundRow, tasks: list[TaskRow]) -> None:
    """Close the open round with the updates that it has; the engine aggregates them, and then finishes."""
    if tx.campaign.state is CampaignState.PAUSED:
        await _continue(tx, CampaignState.RUNNING)
    _announce(tx, round_row.number, dropped=None)
    if round_row.state is RoundState.OPEN:
        await rounds.start_aggregating(tx, round_row, tasks)
    await tx.cancel_tasks(await tx.live_tasks(TaskKind.TRAIN))  # no round follows in which they could count late
    tx.campaign.due_at = tx.now


async def _end_before(tx: CampaignTx, round_row: RoundRow | None) -> None:
    """Drop the open round, and have the last adapter evaluated as such."""
    campaign = tx.campaign
    _announce(tx, campaign.rounds_closed, dropped=round_row.number if round_row is not None else None)
    await stragglers.discard_late_updates(tx, campaign.rounds_closed + 2)
    if round_row is not None:
        await lifecycle.move(tx.session, round_row, RoundState.CANCELLED, closed_at=tx.now)
    await _continue(tx, CampaignState.FINISHING)
    await evaluating.complete_last(tx)


async def _continue(tx: CampaignTx, state: CampaignState) -> None:
    """Move a running or paused campaign on; deadlines start again if it was paused."""
    resumed_at = tx.now if tx.campaign.state is CampaignState.PAUSED else tx.campaign.resumed_at
    await tx.move(state, paused_from=None, reason=None, resumed_at=resumed_at, due_at=tx.now)


def _announce(tx: CampaignTx, ends_after: int, dropped: int | None) -> None:
    if tx.campaign.ends_after != ends_after:  # a campaign that was paused meanwhile is asked again
        reason = f"finished by the operator after round {ends_after} of {tx.spec.rounds}"
        facts = {"round": ends_after, "rounds": tx.spec.rounds, "dropped": dropped, "reason": reason}
        tx.record(EventType.CAMPAIGN_ENDS_EARLY, **facts)
        tx.campaign.ends_because = reason
    tx.campaign.ends_after = ends_after


def _n_done(tasks: list[TaskRow]) -> int:
    return sum(task.state is TaskState.DONE for task in tasks)


def _lack(tx: CampaignTx, tasks: list[TaskRow]) -> str:
    return f"no round is closed, and round 1 has {_n_done(tasks)} of at least {tx.spec.selection.minimum} updates"
