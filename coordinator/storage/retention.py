"""Retention: which blobs a campaign still needs, and the release of all others. Digests stay in the lineage."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.tables import BlobUseRow, CampaignRow, TaskRow
from coordinator.storage.references import needed_among
from coordinator.storage.storage import Storage
from shared.states import BlobKind, CampaignState, TaskKind

Blob = tuple[BlobKind, str]
"""A blob's kind and SHA-256."""


async def release_blobs(storage: Storage, blobs: Iterable[Blob]) -> None:
    """Delete the bytes of blobs, unless a campaign references them or an upload of equal bytes awaits them.

    The blobs are locked: a concurrent transaction that pins a blob is either seen here or finds it missing.
    """
    for kind, digests in _batches(storage, blobs):
        store = storage.store_of(kind)
        kinds = storage.kinds_in(store)
        async with storage.database.write("release blobs") as session:
            await store.lock(session, digests)
            needed = set((await session.scalars(needed_among(digests, kinds))).all())
            await store.delete_all(session, [sha256 for sha256 in digests if sha256 not in needed])


def _batches(storage: Storage, blobs: Iterable[Blob]) -> Iterator[tuple[BlobKind, list[str]]]:
    """Group blobs by kind into batches for one transaction each, sorted to prevent deadlocks."""
    for kind, group in groupby(sorted(set(blobs)), key=lambda blob: blob[0]):
        digests = [sha256 for _, sha256 in group]
        at_once = storage.store_of(kind).deletes_at_once
        for start in range(0, len(digests), at_once):
            yield kind, digests[start : start + at_once]


async def retire(session: AsyncSession, campaign: CampaignRow) -> list[Blob]:
    """Apply a locked campaign's retention. Returns the blobs to release once the transaction is committed.

    Adapter 0, the best, the last, and the adapters of live tasks stay. Updates of a cancelled round are released.
    """
    closed = campaign.rounds_closed
    expired = [
        and_(BlobUseRow.kind.in_(kinds), BlobUseRow.round < oldest) for oldest, kinds in _oldest(campaign).items()
    ]
    if campaign.state is CampaignState.CANCELLED or campaign.ends_after == closed:
        expired.append(BlobUseRow.round > closed)
    stored = select(BlobUseRow).where(BlobUseRow.campaign_id == campaign.id, BlobUseRow.stored)
    # one query per condition: for several at once, SQLite reads all stored blobs
    uses = [use for condition in expired for use in (await session.scalars(stored.where(condition))).all()]
    needed = await _needed(session, campaign) if any(use.round <= closed for use in uses) else set()
    retired = [use for use in uses if use.round > closed or (use.kind, use.round) not in needed]
    for use in retired:
        use.stored = False
    return [(use.kind, use.sha256) for use in retired]


async def collect(storage: Storage, campaign_id: str) -> int:
    """Apply a campaign's retention and release the blobs. Returns how many were retired."""
    async with storage.database.write("collect") as session:
        retired = await retire(session, await lifecycle.lock_campaign(session, campaign_id))
    await release_blobs(storage, retired)
    return len(retired)


def _oldest(campaign: CampaignRow) -> dict[int, list[BlobKind]]:
    """Kinds of blobs by the oldest round that their retention keeps. Empty while all rounds are kept."""
    retention, closed = campaign.spec.retention, campaign.rounds_closed
    n_rounds = {
        BlobKind.ADAPTER: closed + 1 if retention.adapters == "all" else retention.adapters,
        BlobKind.BROADCAST: retention.server_state,  # needed for rollbacks, like the state
        BlobKind.SERVER_STATE: retention.server_state,
        BlobKind.DELTA: retention.updates,
        BlobKind.EXTRAS: retention.updates,
    }
    by_oldest: dict[int, list[BlobKind]] = {}
    for kind, rounds in n_rounds.items():
        if rounds <= closed:
            by_oldest.setdefault(closed - rounds + 1, []).append(kind)
    return by_oldest


async def _needed(session: AsyncSession, campaign: CampaignRow) -> set[tuple[BlobKind, int | None]]:
    """The campaign's blobs that are needed whatever their age."""
    numbers = (0, campaign.rounds_closed, campaign.best_adapter, campaign.final_adapter)
    needed: set[tuple[BlobKind, int | None]] = {(BlobKind.ADAPTER, number) for number in numbers}
    live = select(TaskRow.kind, TaskRow.round).where(
        TaskRow.campaign_id == campaign.id,
        TaskRow.kind.in_((TaskKind.EVALUATE, TaskKind.BENCHMARK, TaskKind.TRAIN)),
        TaskRow.state.in_(lifecycle.LIVE_TASK),
    )
    for kind, number in (await session.execute(live)).all():
        if kind is not TaskKind.TRAIN:
            needed.add((BlobKind.ADAPTER, number))
        elif number is not None:  # a late update began several rounds ago
            needed |= {(BlobKind.ADAPTER, number - 1), (BlobKind.BROADCAST, number - 1)}
    return needed
