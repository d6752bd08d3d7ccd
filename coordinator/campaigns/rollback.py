"""Takes a campaign back to where it stood after one of its rounds.

Rounds, adapters and metrics after that one leave their tables, since their numbers are used again, and their bytes are
let go. What they were stays in the events. Their tasks stay too, superseded, so that none of them counts any more.
"""

from collections.abc import Sequence

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.tables import AdapterRow, BlobUseRow, CampaignRow, MetricRow, RoundRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.errors import IllegalMove, Invalid, NotKept
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from coordinator.storage.retention import release_blobs
from shared.events import EventType
from shared.states import BlobKind, CampaignState, TaskKind, TaskState
from shared.wire.adapters import Contribution

_FROM = (CampaignState.RUNNING, CampaignState.FINISHING, CampaignState.COMPLETED)

_NEEDED = {
    BlobKind.ADAPTER: ("adapter", "retention.adapters"),
    BlobKind.SERVER_STATE: ("server state", "retention.server_state"),
    BlobKind.BROADCAST: ("broadcast", "retention.server_state"),
}
"""What a round that is gone back to must still have: what it is called, and the setting that decides how long."""

_waits_to_count = and_(TaskRow.kind == TaskKind.TRAIN, TaskRow.state == TaskState.DONE, TaskRow.counts_in.is_(None))
"""A late update that the open round would have taken."""


async def roll_back(services: Services, campaign_id: str, number: int) -> CampaignRow:
    """Undo all that came after round *number* closed (0: after adapter 0 was there), and leave the campaign paused.

    An engine that is at work on the campaign loses its claim, so what it aggregates is never written down. Raises
    NotFound; IllegalMove; Invalid where no such round was closed, or nothing came after it; NotKept.
    """
    async with services.database.write("roll back") as session:
        campaign = await lock_campaign(session, campaign_id)
        tx = CampaignTx(session, campaign, campaign.spec, services.clock.now())
        adapters = await _adapters(session, campaign_id)
        undone = await _rounds_after(session, campaign_id, number)
        stored = await _stored(session, campaign_id)
        _check(campaign, number, undone, adapters, stored)
        for round_row in reversed(undone):
            adapter = adapters.get(round_row.number)
            tx.record(
                EventType.ROUND_ROLLED_BACK,
                round=round_row.number,
                adapter=adapter.sha256 if adapter else None,
                held_out_loss=adapter.held_out_loss if adapter else None,
                contributions=adapter.contributions if adapter else [],
            )
        await _supersede_tasks(tx, number)
        gone = await _drop(session, campaign_id, number)
        left = [adapters[each] for each in range(number + 1)]
        await _restore_counted(tx, left)
        await _pause(tx, number, best_adapter=_best(left, stored))
        numbers = [round_row.number for round_row in undone]
        tx.record(EventType.CAMPAIGN_ROLLED_BACK, round=number, adapter=left[-1].sha256, undone=numbers)
        services.notifiers.after_commit(session, campaign_id=campaign_id, engine=False)
    await release_blobs(services.storage, [(use.kind, use.sha256) for use in gone])
    return campaign


def _check(
    campaign: CampaignRow,
    number: int,
    undone: Sequence[RoundRow],
    adapters: dict[int, AdapterRow],
    stored: set[tuple[BlobKind, int]],
) -> None:
    """Raise IllegalMove, Invalid or NotKept unless the campaign can go back to the round."""
    is_paused = campaign.state is CampaignState.PAUSED
    if (campaign.paused_from if is_paused else campaign.state) not in _FROM:
        state = f"paused while {campaign.paused_from}" if is_paused else campaign.state
        raise IllegalMove("campaign", state, "rolled back")
    closed = campaign.rounds_closed
    if number > closed:
        raise Invalid(("round", f"{number} is above {closed}, the last round that was closed"))
    if not undone:
        raise Invalid(("round", f"nothing came after round {number} that could be undone"))
    missing = _missing(adapters[number], stored)
    if missing is not None:
        possible = [each for each in range(closed + 1) if _missing(adapters[each], stored) is None]
        raise NotKept(number, *_NEEDED[missing], possible)


def _missing(adapter: AdapterRow, stored: set[tuple[BlobKind, int]]) -> BlobKind | None:
    """What of an adapter and its round's state is no longer stored. The initial state is always there: it has no
    bytes."""
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
    """Of which rounds which blobs have their bytes."""
    query = select(BlobUseRow.kind, BlobUseRow.round).where(
        BlobUseRow.campaign_id == campaign_id, BlobUseRow.stored, BlobUseRow.kind.in_(_NEEDED)
    )
    return {(kind, number) for kind, number in (await session.execute(query)).all()}


async def _supersede_tasks(tx: CampaignTx, number: int) -> None:
    """Take the tasks of later rounds out of the game, whatever became of them. Agents at work hear ``cancel``."""
    tasks = await tx.session.scalars(
        select(TaskRow).where(
            TaskRow.campaign_id == tx.campaign.id,
            TaskRow.kind.in_((TaskKind.TRAIN, TaskKind.EVALUATE)),
            TaskRow.state != TaskState.SUPERSEDED,
            or_(TaskRow.round > number, TaskRow.counts_in > number, _waits_to_count),
        )
    )
    for task in tasks.all():
        await lifecycle.move(tx.session, task, TaskState.SUPERSEDED, ended_at=task.ended_at or tx.now)


async def _drop(session: AsyncSession, campaign_id: str, number: int) -> Sequence[BlobUseRow]:
    """Delete the later rounds' rows; the uses of blobs that end with them."""
    await session.flush()
    await session.execute(delete(MetricRow).where(MetricRow.campaign_id == campaign_id, MetricRow.round > number))
    await session.execute(delete(AdapterRow).where(AdapterRow.campaign_id == campaign_id, AdapterRow.number > number))
    await session.execute(delete(RoundRow).where(RoundRow.campaign_id == campaign_id, RoundRow.number > number))
    ended = (BlobUseRow.campaign_id == campaign_id, BlobUseRow.round > number, BlobUseRow.stored)
    gone = (await session.scalars(select(BlobUseRow).where(*ended))).all()
    await session.execute(update(BlobUseRow).where(*ended).values(stored=False))
    return gone


async def _restore_counted(tx: CampaignTx, adapters: Sequence[AdapterRow]) -> None:
    """Have each participant's newest contribution be the one that counted last; none from before a restart."""
    counted: dict[int, str] = {}
    for adapter in reversed(adapters):
        shares = [Contribution.model_validate(share) for share in adapter.contributions]
        if any(share.client_state_lost for share in shares):
            break
        for share in shares:
            counted.setdefault(share.client_number, share.update_sha256)
    for participant in await tx.participants():
        number = participant.client_number
        participant.committed_update_sha256 = counted.get(number) if number is not None else None
        if participant.joined_round is not None:  # who joined later is a client from the next round on
            participant.joined_round = min(participant.joined_round, len(adapters))


def _best(adapters: Sequence[AdapterRow], stored: set[tuple[BlobKind, int]]) -> int | None:
    """The adapter with the lowest held-out loss; of those that can still be had, for the best so far was kept only
    while it was the best."""
    losses = {
        row.number: row.held_out_loss
        for row in adapters
        if row.held_out_loss is not None and (BlobKind.ADAPTER, row.number) in stored
    }
    return min(losses, key=losses.__getitem__, default=None)


async def _pause(tx: CampaignTx, number: int, *, best_adapter: int | None) -> None:
    values = {
        "paused_from": CampaignState.RUNNING,
        "reason": f"rolled back to round {number} by the operator",
        "rounds_closed": number,
        "best_adapter": best_adapter,
        "final_adapter": None,
        "ended_at": None,
        "due_at": None,
        "new_agents": True,  # nobody told a campaign that had ended
        "claim_token": None,
        "claim_expires_at": None,
    }
    if tx.campaign.state is not CampaignState.PAUSED:
        await tx.move(CampaignState.PAUSED, **values)
        return
    for name, value in values.items():
        setattr(tx.campaign, name, value)
