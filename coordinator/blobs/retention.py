"""Lets go of bytes that nobody needs: what is collected keeps its digest in the lineage."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from sqlalchemy import and_, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.deps import Services
from coordinator.errors import NotFound
from coordinator.events.log import lock_campaign
from coordinator.tables import BlobRow, BlobUseRow, CampaignRow, TaskRow, UploadRow
from shared.states import BlobKind, CampaignState, TaskKind

_AT_ONCE = 100

Blob = tuple[BlobKind, str]
"""What a blob is kept for, and its SHA-256."""


async def hold(session: AsyncSession, sha256: str) -> None:
    """Lock a blob in the database until the transaction that counts on it ends, against letting go of it. Raises
    NotFound where it is not there."""
    query = select(BlobRow.sha256).where(BlobRow.sha256 == sha256)
    if await session.scalar(query.with_for_update(read=True, key_share=True)) is None:
        raise NotFound("blob", sha256)


async def let_go(at: Services, blobs: Iterable[Blob]) -> None:
    """Delete the bytes of blobs, but for those that some campaign still uses or an upload of the same bytes awaits.

    The blobs' rows are locked, so that whoever counts on their bytes at this moment either is seen here or finds them
    gone.
    """
    for kind, digests in _in_parts(blobs):
        kinds = at.storage.kinds_beside(kind)
        rows = select(BlobRow.sha256).where(BlobRow.sha256.in_(digests)).order_by(BlobRow.sha256)
        async with at.database.write("let go") as session:
            await session.execute(rows.with_for_update())
            for sha256 in digests:
                used = exists().where(BlobUseRow.sha256 == sha256, BlobUseRow.stored, BlobUseRow.kind.in_(kinds))
                awaited = exists().where(UploadRow.sha256 == sha256, UploadRow.purpose.in_(kinds))
                # in one statement: one transaction ends an upload and counts its bytes, and is seen whole or not at all
                if not await session.scalar(select(used | awaited)):
                    await at.storage.store_of(kind).delete(session, sha256)


def _in_parts(blobs: Iterable[Blob]) -> Iterator[tuple[BlobKind, list[str]]]:
    """The blobs by kind, as many at a time as one transaction takes, in an order in which nobody waits in a circle."""
    for kind, those in groupby(sorted(set(blobs)), key=lambda blob: blob[0]):
        digests = [sha256 for _, sha256 in those]
        for start in range(0, len(digests), _AT_ONCE):
            yield kind, digests[start : start + _AT_ONCE]


async def retire(session: AsyncSession, campaign: CampaignRow) -> list[Blob]:
    """Apply a locked campaign's retention; the blobs to let go of once that is committed. Adapter 0, the best, the last
    one, and adapters that a live task names, stay; updates of a round that was cancelled do not."""
    closed = campaign.rounds_closed
    ended = [and_(BlobUseRow.kind.in_(kinds), BlobUseRow.round < oldest) for oldest, kinds in _oldest(campaign).items()]
    if campaign.state is CampaignState.CANCELLED:
        ended.append(BlobUseRow.round > closed)
    stored = select(BlobUseRow).where(BlobUseRow.campaign_id == campaign.id, BlobUseRow.stored)
    # one by one: for several at once, SQLite goes through all that is stored
    found = [use for condition in ended for use in (await session.scalars(stored.where(condition))).all()]
    needed = await _needed(session, campaign) if any(use.round <= closed for use in found) else set()
    gone = [use for use in found if use.round > closed or (use.kind, use.round) not in needed]
    for use in gone:
        use.stored = False
    return [(use.kind, use.sha256) for use in gone]


async def collect(at: Services, campaign_id: str) -> int:
    """Apply a campaign's retention, and let go of what it does not keep; how many blobs that were."""
    async with at.database.write("collect") as session:
        gone = await retire(session, await lock_campaign(session, campaign_id))
    await let_go(at, gone)
    return len(gone)


def _oldest(campaign: CampaignRow) -> dict[int, list[BlobKind]]:
    """The oldest rounds that are kept, and the kinds of which that is so; none where nothing is old enough to go."""
    keep, closed = campaign.spec.retention, campaign.rounds_closed
    kept_rounds = {
        BlobKind.ADAPTER: closed + 1 if keep.adapters == "all" else keep.adapters,
        BlobKind.BROADCAST: keep.server_state,  # a part of the state: no rollback without it
        BlobKind.SERVER_STATE: keep.server_state,
        BlobKind.DELTA: keep.updates,
        BlobKind.EXTRAS: keep.updates,
    }
    by_oldest: dict[int, list[BlobKind]] = {}
    for kind, rounds in kept_rounds.items():
        if rounds <= closed:
            by_oldest.setdefault(closed - rounds + 1, []).append(kind)
    return by_oldest


async def _needed(session: AsyncSession, campaign: CampaignRow) -> set[tuple[BlobKind, int | None]]:
    """What of a campaign stays, however old it is."""
    numbers = (0, campaign.rounds_closed, campaign.best_adapter, campaign.final_adapter)
    needed: set[tuple[BlobKind, int | None]] = {(BlobKind.ADAPTER, number) for number in numbers}
    live = select(TaskRow.kind, TaskRow.round).where(
        TaskRow.campaign_id == campaign.id,
        TaskRow.kind.in_((TaskKind.EVALUATE, TaskKind.TRAIN)),
        TaskRow.state.in_(lifecycle.LIVE_TASK),
    )
    for kind, number in (await session.execute(live)).all():
        if kind is TaskKind.EVALUATE:
            needed.add((BlobKind.ADAPTER, number))
        elif number is not None:  # a late one began several rounds ago
            needed |= {(BlobKind.ADAPTER, number - 1), (BlobKind.BROADCAST, number - 1)}
    return needed
