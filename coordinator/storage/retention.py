"""Retention: which blobs a campaign still needs, and the release of all others. Digests stay in the lineage."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.objects import Objects
from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import BlobUseRow, CampaignRow, TaskRow
from coordinator.storage.references import needed_among
from coordinator.storage.storage import Storage
from shared.states import BlobKind, CampaignState, TaskKind

_STORED = select(BlobUseRow).where(BlobUseRow.campaign_id == given("campaign"), BlobUseRow.stored)
_LATER = Objects(_STORED.where(BlobUseRow.round > given("round")))
_LIVE = Prepared(
    select(TaskRow.kind, TaskRow.round).where(
        TaskRow.campaign_id == given("campaign"),
        TaskRow.kind.in_((TaskKind.EVALUATE, TaskKind.BENCHMARK, TaskKind.TRAIN)),
        TaskRow.state.in_(lifecycle.LIVE_TASK),
    )
)
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
            kept = await needed_among(session, kinds, digests)
            await store.delete_all(session, [sha256 for sha256 in digests if sha256 not in kept])


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
    # one query for each: for several at once, SQLite reads all stored blobs
    uses = [
        use
        for oldest, kinds in _oldest(campaign).items()
        for use in await _older(kinds).all(session, campaign=campaign.id, round=oldest)
    ]
    if campaign.state is CampaignState.CANCELLED or campaign.ends_after == closed:
        uses += await _LATER.all(session, campaign=campaign.id, round=closed)
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


def _oldest(campaign: CampaignRow) -> dict[int, tuple[BlobKind, ...]]:
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
    return {oldest: tuple(kinds) for oldest, kinds in by_oldest.items()}


@cache
def _older(kinds: tuple[BlobKind, ...]) -> Objects[BlobUseRow]:
    """The stored blobs of some kinds that are older than a round."""
    return Objects(_STORED.where(BlobUseRow.kind.in_(kinds), BlobUseRow.round < given("round")))


async def _needed(session: AsyncSession, campaign: CampaignRow) -> set[tuple[BlobKind, int | None]]:
    """The campaign's blobs that are needed whatever their age."""
    numbers = (0, campaign.rounds_closed, campaign.best_adapter, campaign.final_adapter)
    needed: set[tuple[BlobKind, int | None]] = {(BlobKind.ADAPTER, number) for number in numbers}
    for kind, number in await _LIVE.rows(session, campaign=campaign.id):
        if kind is not TaskKind.TRAIN:
            needed.add((BlobKind.ADAPTER, number))
        elif number is not None:  # a late update began several rounds ago
            needed |= {(BlobKind.ADAPTER, number - 1), (BlobKind.BROADCAST, number - 1)}
    return needed
