"""Retention: which blobs a campaign still needs, and the release of those that it does not. Their digests stay in the
lineage."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from sqlalchemy import and_, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.tables import BlobRow, BlobUseRow, CampaignRow, TaskRow, UploadRow
from coordinator.errors import NotFound
from coordinator.storage.storage import Storage
from shared.states import BlobKind, CampaignState, TaskKind

_BATCH = 100

Blob = tuple[BlobKind, str]
"""What a blob is kept for, and its SHA-256."""


async def pin(session: AsyncSession, sha256: str) -> None:
    """Keep a blob from being released until the transaction ends, which by then references it. Raises NotFound."""
    query = select(BlobRow.sha256).where(BlobRow.sha256 == sha256)
    if await session.scalar(query.with_for_update(read=True, key_share=True)) is None:
        raise NotFound("blob", sha256)


async def release_blobs(storage: Storage, blobs: Iterable[Blob]) -> None:
    """Delete the bytes of blobs, except those that a campaign still references or an upload of equal bytes awaits.

    The rows of the blobs are locked: whoever pins one of them at this moment is either seen here, or finds it gone.
    """
    for kind, digests in _batches(blobs):
        kinds = storage.kinds_beside(kind)
        rows = select(BlobRow.sha256).where(BlobRow.sha256.in_(digests)).order_by(BlobRow.sha256)
        async with storage.database.write("release blobs") as session:
            await session.execute(rows.with_for_update())
            for sha256 in digests:
                used = exists().where(BlobUseRow.sha256 == sha256, BlobUseRow.stored, BlobUseRow.kind.in_(kinds))
                awaited = exists().where(UploadRow.sha256 == sha256, UploadRow.purpose.in_(kinds))
                # in one statement: the transaction that ends an upload and references its bytes is seen whole or not
                if not await session.scalar(select(used | awaited)):
                    await storage.store_of(kind).delete(session, sha256)


def _batches(blobs: Iterable[Blob]) -> Iterator[tuple[BlobKind, list[str]]]:
    """The blobs by kind, in transactions' worth, sorted so that two transactions never wait for each other."""
    for kind, those in groupby(sorted(set(blobs)), key=lambda blob: blob[0]):
        digests = [sha256 for _, sha256 in those]
        for start in range(0, len(digests), _BATCH):
            yield kind, digests[start : start + _BATCH]


async def retire(session: AsyncSession, campaign: CampaignRow) -> list[Blob]:
    """Apply a locked campaign's retention. Returns the blobs to release once the transaction is committed.

    Adapter 0, the best, the last, and the adapters of live tasks stay. Updates of a cancelled round go.
    """
    closed = campaign.rounds_closed
    ended = [and_(BlobUseRow.kind.in_(kinds), BlobUseRow.round < oldest) for oldest, kinds in _oldest(campaign).items()]
    if campaign.state is CampaignState.CANCELLED:
        ended.append(BlobUseRow.round > closed)
    stored = select(BlobUseRow).where(BlobUseRow.campaign_id == campaign.id, BlobUseRow.stored)
    # one query for each: for several conditions at once, SQLite reads everything that is stored
    found = [use for condition in ended for use in (await session.scalars(stored.where(condition))).all()]
    needed = await _needed(session, campaign) if any(use.round <= closed for use in found) else set()
    gone = [use for use in found if use.round > closed or (use.kind, use.round) not in needed]
    for use in gone:
        use.stored = False
    return [(use.kind, use.sha256) for use in gone]


async def collect(storage: Storage, campaign_id: str) -> int:
    """Apply a campaign's retention, and release what it does not keep. Returns how many blobs that were."""
    async with storage.database.write("collect") as session:
        gone = await retire(session, await lifecycle.lock_campaign(session, campaign_id))
    await release_blobs(storage, gone)
    return len(gone)


def _oldest(campaign: CampaignRow) -> dict[int, list[BlobKind]]:
    """For each number of an oldest round to keep, the kinds of blobs that it holds for. Empty while all is recent."""
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
    """The blobs of a campaign that stay, however old they are."""
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
        elif number is not None:  # a late update began several rounds ago
            needed |= {(BlobKind.ADAPTER, number - 1), (BlobKind.BROADCAST, number - 1)}
    return needed
