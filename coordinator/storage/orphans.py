"""Deletes unreferenced blobs: what a process leaves when it dies between two steps.

A row announces each blob before it is written (an upload; a round that is being aggregated), and a later transaction
references it. Unannounced, unreferenced blobs are garbage. Nothing is lost if a transaction was about to reference a
deleted blob: it finds the blob missing, and the blob is made again.
"""

from sqlalchemy import exists, select

from coordinator.database.tables import BlobUseRow, CampaignRow
from coordinator.storage.retention import collect, release_blobs
from coordinator.storage.storage import Storage
from coordinator.storage.stores import BlobStore


async def sweep_orphans(storage: Storage) -> int:
    """Delete unreferenced blobs, uploads and chunks. Returns how many there were.

    While a round is being aggregated, blobs that it may have stored are left alone.
    """
    n_gone = await _overdue(storage)
    for store in storage.stores:
        n_gone += await _blobs(storage, store)
    return n_gone + await _uploads(storage)


async def _overdue(storage: Storage) -> int:
    """Apply retention again: an engine that dies while it closes a round leaves it to the next round, and the last
    round has none."""
    with_blobs = exists().where(BlobUseRow.campaign_id == CampaignRow.id, BlobUseRow.stored)
    async with storage.database.read() as session:
        campaigns = (await session.scalars(select(CampaignRow.id).where(with_blobs))).all()
    return sum([await collect(storage, campaign_id) for campaign_id in campaigns])


async def _blobs(storage: Storage, store: BlobStore) -> int:
    """Blobs of a store that nothing references, and what was never completed."""
    kinds = storage.kinds_in(store)
    orphans = await store.orphans(kinds)
    await release_blobs(storage, ((kinds[0], sha256) for sha256 in orphans))
    return len(orphans) + await store.delete_loose(kinds)


async def _uploads(storage: Storage) -> int:
    """Bytes of uploads that are gone."""
    uploads = await storage.staging.orphans()
    for upload_id in uploads:
        await storage.staging.discard(upload_id)
    return len(uploads)
