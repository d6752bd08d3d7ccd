"""Lets go of bytes that nobody needs: what is collected keeps its digest in the lineage."""

from sqlalchemy import exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.deps import Services
from coordinator.errors import NotFound
from coordinator.tables import BlobRow, BlobUseRow, CampaignRow, TaskRow, UploadRow
from shared.states import BlobKind, CampaignState, TaskKind


async def hold(session: AsyncSession, sha256: str) -> None:
    """Lock a blob in the database until the transaction that counts on it ends, against letting go of it. Raises
    NotFound where it is not there."""
    query = select(BlobRow.sha256).where(BlobRow.sha256 == sha256)
    if await session.scalar(query.with_for_update(read=True, key_share=True)) is None:
        raise NotFound("blob", sha256)


async def let_go(at: Services, kind: BlobKind, sha256: str) -> None:
    """Delete a blob's bytes unless some campaign still uses them, or an upload of the same bytes is about to count.

    The blob's row is locked, so that whoever counts on its bytes at this moment either is seen here or finds them gone.
    """
    kinds = at.storage.kinds_beside(kind)
    used = exists().where(BlobUseRow.sha256 == sha256, BlobUseRow.stored, BlobUseRow.kind.in_(kinds))
    awaited = exists().where(UploadRow.sha256 == sha256, UploadRow.purpose.in_(kinds))
    async with at.database.write("let go") as session:
        await session.execute(select(BlobRow.sha256).where(BlobRow.sha256 == sha256).with_for_update())
        if not await session.scalar(select(used | awaited)):
            await at.storage.store_of(kind).delete(session, sha256)


async def collect(at: Services, campaign_id: str) -> int:
    """Apply a campaign's retention; how many blobs it let go. Adapter 0, the best, the last one, and adapters that a
    live task names, stay; updates of a round that was cancelled do not."""
    async with at.database.write("collect") as session:
        campaign = await session.get_one(CampaignRow, campaign_id)
        keep, closed = campaign.spec.retention, campaign.rounds_closed
        needed = {(BlobKind.ADAPTER, each) for each in (0, closed, campaign.best_adapter, campaign.final_adapter)}
        live = select(TaskRow.kind, TaskRow.round).where(
            TaskRow.campaign_id == campaign_id,
            TaskRow.kind.in_((TaskKind.EVALUATE, TaskKind.TRAIN)),
            TaskRow.state.in_(lifecycle.LIVE_TASK),
        )
        for kind, number in (await session.execute(live)).all():
            if kind is TaskKind.EVALUATE:
                needed.add((BlobKind.ADAPTER, number))
            elif number is not None:  # a late one began several rounds ago
                needed |= {(BlobKind.ADAPTER, number - 1), (BlobKind.BROADCAST, number - 1)}
        oldest = {
            BlobKind.ADAPTER: 0 if keep.adapters == "all" else closed - keep.adapters + 1,
            BlobKind.BROADCAST: closed - keep.server_state + 1,  # a part of the state: no rollback without it
            BlobKind.SERVER_STATE: closed - keep.server_state + 1,
            BlobKind.DELTA: closed - keep.updates + 1,
            BlobKind.EXTRAS: closed - keep.updates + 1,
        }
        uses = await session.scalars(select(BlobUseRow).where(BlobUseRow.campaign_id == campaign_id, BlobUseRow.stored))
        gone = [
            use
            for use in uses.all()
            if (use.round < oldest[use.kind] and (use.kind, use.round) not in needed)
            or (use.round > closed and campaign.state is CampaignState.CANCELLED)
        ]
        for use in gone:
            await session.execute(update(BlobUseRow).where(BlobUseRow.id == use.id).values(stored=False))
    for use in gone:
        await let_go(at, use.kind, use.sha256)
    return len(gone)
