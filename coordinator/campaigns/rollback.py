"""Rolls a campaign back to its state after one of its rounds.

Rows of later rounds, adapters and metrics are deleted, since their numbers are used again. Their blobs are released.
The events keep what they were. Later tasks stay as superseded, so they no longer count.
"""

from collections.abc import Sequence

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.tables import AdapterRow, BlobUseRow, CampaignRow, GainRow, MetricRow, RoundRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.evaluation.deciding import best_of
from coordinator.errors import IllegalMove, Invalid, NotKept
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from coordinator.signing import chain
from coordinator.storage.retention import release_blobs
from shared.events import EventType
from shared.metrics import HELD_OUT_LOSS
from shared.states import BlobKind, CampaignState, TaskKind, TaskState
from shared.wire.adapters import Contribution

_FROM = (CampaignState.RUNNING, CampaignState.FINISHING, CampaignState.COMPLETED)

_NEEDED = {
    BlobKind.ADAPTER: ("adapter", "retention.adapters"),
    BlobKind.SERVER_STATE: ("server state", "retention.server_state"),
    BlobKind.BROADCAST: ("broadcast", "retention.server_state"),
}
"""Blobs that a rollback target must still have: the kind in words, and the setting that governs its retention."""

_is_unused_update = and_(TaskRow.kind == TaskKind.TRAIN, TaskRow.state == TaskState.DONE, TaskRow.counts_in.is_(None))
"""SQL: a late update that has not counted in any round yet."""


async def roll_back(services: Services, campaign_id: str, number: int) -> CampaignRow:
    """Undo all that followed the close of round *number* (0: the making of adapter 0), and leave the campaign paused.

    An engine that is aggregating loses its claim, so its result is never recorded.

    Raises NotFound, IllegalMove, Invalid if that round was not closed or nothing followed it, and NotKept.
    """
    async with services.database.write("roll back") as session:
        campaign = await lock_campaign(session, campaign_id)
        tx = CampaignTx(session, campaign, services.clock.now())
        adapters = await _adapters(session, campaign_id)
        undone = await _rounds_after(session, campaign_id, number)
        stored = await _stored(session, campaign_id)
        _check(campaign, number, undone, adapters, stored)
        for round_row in reversed(undone):
            adapter = adapters.get(round_row.number)
            tx.record(
                EventType.ROUND_ROLLED_BACK,
                round=round_row.number,
                adapter_sha256=adapter.sha256 if adapter else None,
                metrics=adapter.metrics if adapter else {},
                contributions=adapter.contributions if adapter else [],
            )
        await _supersede_tasks(tx, number)
        unused = await _delete_rows(session, campaign_id, number)
        remaining = [adapters[each] for each in range(number + 1)]
        await _restore_participants(tx, remaining)
        await _pause(tx, number, best_adapter=_best(campaign, remaining, stored))
        chain.say_history(session, campaign)
        numbers = [round_row.number for round_row in undone]
        tx.record(EventType.CAMPAIGN_ROLLED_BACK, round=number, adapter_sha256=remaining[-1].sha256, undone=numbers)
        services.notifiers.after_commit(session, campaign_id=campaign_id, engine=False)
    await release_blobs(services.storage, [(use.kind, use.sha256) for use in unused])
    return campaign


def _check(
    campaign: CampaignRow,
    number: int,
    undone: Sequence[RoundRow],
    adapters: dict[int, AdapterRow],
    stored: set[tuple[BlobKind, int]],
) -> None:
    """Raise IllegalMove, Invalid or NotKept unless the campaign can be rolled back to the round."""
    is_paused = campaign.state is CampaignState.PAUSED
    if (campaign.paused_from if is_paused else campaign.state) not in _FROM:
        state = f"paused while {campaign.paused_from}" if is_paused else campaign.state
        raise IllegalMove("campaign", state, "rolled back")
    closed = campaign.rounds_closed
    if number > closed:
        raise Invalid(("round", f"{number} is above {closed}, the last closed round"))
    if not undone:
        raise Invalid(("round", f"there is nothing to undo after round {number}"))
    missing = _missing(adapters[number], stored)
    if missing is not None:
        possible = [each for each in range(closed + 1) if _missing(adapters[each], stored) is None]
        raise NotKept(number, *_NEEDED[missing], possible)


def _missing(adapter: AdapterRow, stored: set[tuple[BlobKind, int]]) -> BlobKind | None:
    """The first kind of an adapter's blobs that is no longer stored, or None. The initial state has no blob."""
    digests = {
        BlobKind.ADAPTER: adapter.sha256,
        BlobKind.SERVER_STATE: adapter.state_sha256,
        BlobKind.BROADCAST: adapter.broadcast_sha256,
    }
    return next(
        (kind for kind, sha256 in digests.items() if sha256 is not None and (kind, adapter.number) not in stored), None
    )


async def _adapters(session: AsyncSession, campaign_id: str) -> dict[int, AdapterRow]:
    query = select(AdapterRow).where(AdapterRow.campaign_id == campaign_id)
    return {row.number: row for row in (await session.scalars(query)).all()}


async def _rounds_after(session: AsyncSession, campaign_id: str, number: int) -> Sequence[RoundRow]:
    query = select(RoundRow).where(RoundRow.campaign_id == campaign_id, RoundRow.number > number)
    return (await session.scalars(query.order_by(RoundRow.number))).all()


async def _stored(session: AsyncSession, campaign_id: str) -> set[tuple[BlobKind, int]]:
    """The stored blobs that rollbacks need, as kind and round."""
    query = select(BlobUseRow.kind, BlobUseRow.round).where(
        BlobUseRow.campaign_id == campaign_id, BlobUseRow.stored, BlobUseRow.kind.in_(_NEEDED)
    )
    return {(kind, number) for kind, number in (await session.execute(query)).all()}


async def _supersede_tasks(tx: CampaignTx, number: int) -> None:
    """Supersede the tasks of later rounds, in any state, and all that are held: their owners looked at an update of
    the history before. Agents at work on them get the directive CANCEL."""
    tasks = await tx.session.scalars(
        select(TaskRow).where(
            TaskRow.campaign_id == tx.campaign.id,
            TaskRow.kind.in_((TaskKind.TRAIN, TaskKind.EVALUATE, TaskKind.BENCHMARK)),
            TaskRow.state != TaskState.SUPERSEDED,
            or_(
                TaskRow.round > number,
                TaskRow.counts_in > number,
                TaskRow.state == TaskState.HELD,
                _is_unused_update,
            ),
        )
    )
    for task in tasks.all():
        await lifecycle.move(tx.session, task, TaskState.SUPERSEDED, ended_at=task.ended_at or tx.now)


async def _delete_rows(session: AsyncSession, campaign_id: str, number: int) -> Sequence[BlobUseRow]:
    """Delete the rows of later rounds. Returns their blob uses, which are now unstored."""
    await session.flush()
    await session.execute(delete(MetricRow).where(MetricRow.campaign_id == campaign_id, MetricRow.round > number))
    await session.execute(delete(GainRow).where(GainRow.campaign_id == campaign_id, GainRow.number > number))
    await session.execute(delete(AdapterRow).where(AdapterRow.campaign_id == campaign_id, AdapterRow.number > number))
    await session.execute(delete(RoundRow).where(RoundRow.campaign_id == campaign_id, RoundRow.number > number))
    is_later = (BlobUseRow.campaign_id == campaign_id, BlobUseRow.round > number, BlobUseRow.stored)
    unused = (await session.scalars(select(BlobUseRow).where(*is_later))).all()
    await session.execute(update(BlobUseRow).where(*is_later).values(stored=False))
    return unused


async def _restore_participants(tx: CampaignTx, adapters: Sequence[AdapterRow]) -> None:
    """Restore each participant's ``joined_round``, its committed update (the newest one since the last restart), its
    last update, the last adapter that it evaluated, and the round in which it reported the loss of its client state."""
    committed: dict[int, str] = {}
    last: dict[int, tuple[int, float]] = {}
    lost_in: dict[int, int] = {}
    restarted = False
    for adapter in reversed(adapters):
        contributions = [Contribution.model_validate(each) for each in adapter.contributions]
        restarted = restarted or any(each.client_state_lost for each in contributions)
        for each in contributions:
            last.setdefault(each.client_number, (adapter.number - each.staleness, each.weight))
            if each.client_state_lost:
                lost_in[each.client_number] = adapter.number
            if not restarted:
                committed.setdefault(each.client_number, each.update_sha256)
    evaluated = await _evaluated(tx)
    for participant in await tx.participants():
        number = participant.client_number
        if number is None:
            continue
        participant.committed_update_sha256 = committed.get(number)
        participant.update_round, participant.update_weight = last.get(number, (None, None))
        participant.evaluated_adapter = evaluated.get(number)
        participant.lost_state_in = lost_in.get(number)
        if participant.joined_round is not None:  # clients that joined later count from the next round on
            participant.joined_round = min(participant.joined_round, len(adapters))


async def _evaluated(tx: CampaignTx) -> dict[int, int]:
    """The newest adapter that each client evaluated, by client number."""
    query = select(MetricRow.client_number, func.max(MetricRow.round)).where(
        MetricRow.campaign_id == tx.campaign.id,
        MetricRow.name == HELD_OUT_LOSS,
        MetricRow.client_number.is_not(None),
    )
    rows = (await tx.session.execute(query.group_by(MetricRow.client_number))).all()
    return {client_number: newest for client_number, newest in rows if client_number is not None}


def _best(campaign: CampaignRow, adapters: Sequence[AdapterRow], stored: set[tuple[BlobKind, int]]) -> int | None:
    """The number of the best adapter that is stored, or None.

    An earlier best adapter may be missing: it was kept only while it was the best.
    """
    return best_of(campaign.spec, [row for row in adapters if (BlobKind.ADAPTER, row.number) in stored])


async def _pause(tx: CampaignTx, number: int, *, best_adapter: int | None) -> None:
    values = {
        "paused_from": CampaignState.RUNNING,
        "reason": f"rolled back to round {number} by the operator",
        "rounds_closed": number,
        "history": tx.campaign.history + 1,
        "ends_after": None,
        "ends_because": None,
        "best_adapter": best_adapter,
        "final_adapter": None,
        "ended_at": None,
        "due_at": None,
        "new_agents": True,  # enrolments do not set this for a campaign that has ended
        "claim_token": None,
        "claim_expires_at": None,
    }
    if tx.campaign.state is not CampaignState.PAUSED:
        await tx.move(CampaignState.PAUSED, **values)
        return
    for name, value in values.items():
        setattr(tx.campaign, name, value)
