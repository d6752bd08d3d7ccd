"""Deletes unreferenced blobs: what a process leaves when it dies between two steps.

A row announces each blob before it is written (an upload; a round that is being aggregated), and a later transaction
references it. Unannounced, unreferenced blobs are garbage. Nothing is lost if a transaction was about to reference a
deleted blob: it finds the blob missing, and the blob is made again.
"""

import asyncio

from sqlalchemy import CursorResult, Exists, delete, exists, func, select

from coordinator.database.tables import BlobChunkRow, BlobRow, BlobUseRow, CampaignRow, RoundRow, UploadRow
from coordinator.storage.file_store import FileStaging, FileStore
from coordinator.storage.retention import collect, release_blobs
from coordinator.storage.storage import Storage
from shared.states import BlobKind, RoundState

_UPLOAD = "upload:"


async def sweep_orphans(storage: Storage) -> int:
    """Delete unreferenced blobs, uploads and chunks. Returns how many there were.

    While a round is being aggregated, blobs that it may have stored are left alone.
    """
    return sum([await _overdue(storage), await _blobs(storage), await _loose_chunks(storage), await _files(storage)])


async def _overdue(storage: Storage) -> int:
    """Apply retention again: an engine that dies while it closes a round leaves it to the next round, and the last
    round has none."""
    with_blobs = exists().where(BlobUseRow.campaign_id == CampaignRow.id, BlobUseRow.stored)
    async with storage.database.read() as session:
        campaigns = (await session.scalars(select(CampaignRow.id).where(with_blobs))).all()
    return sum([await collect(storage, campaign_id) for campaign_id in campaigns])


async def _blobs(storage: Storage) -> int:
    """Unreferenced blobs in the database that no upload awaits."""
    kinds = storage.kinds_sharing_store(BlobKind.ADAPTER)
    used = exists().where(BlobUseRow.sha256 == BlobRow.sha256, BlobUseRow.stored, BlobUseRow.kind.in_(kinds))
    awaited = exists().where(UploadRow.sha256 == BlobRow.sha256)
    query = select(BlobRow.sha256).where(~used, ~awaited, ~_aggregating())
    async with storage.database.read() as session:
        orphans = (await session.scalars(query)).all()
    await release_blobs(storage, ((BlobKind.ADAPTER, sha256) for sha256 in orphans))
    return len(orphans)


async def _loose_chunks(storage: Storage) -> int:
    """Chunks of blobs that were never completed, and of uploads that are gone.

    One statement, so that it never sees chunks without the row that announced them.
    """
    is_of_upload = BlobChunkRow.blob.startswith(_UPLOAD)
    has_upload = exists().where(UploadRow.id == func.substr(BlobChunkRow.blob, len(_UPLOAD) + 1))
    is_whole = exists().where(BlobRow.sha256 == BlobChunkRow.blob)
    awaited = exists().where(UploadRow.sha256 == BlobChunkRow.blob)
    loose = delete(BlobChunkRow).where(
        (is_of_upload & ~has_upload) | (~is_of_upload & ~is_whole & ~awaited & ~_aggregating())
    )
    async with storage.database.write("loose chunks") as session:
        result = await session.execute(loose.execution_options(synchronize_session=False))
        assert isinstance(result, CursorResult)
        return result.rowcount


async def _files(storage: Storage) -> int:
    """Files of unreferenced updates, and of uploads that are gone."""
    store, staging = storage.store_of(BlobKind.DELTA), storage.staging
    # list the files first: what is announced in between has its row before its file
    blobs = await asyncio.to_thread(store.names) if isinstance(store, FileStore) else set()
    uploads = await asyncio.to_thread(staging.names) if isinstance(staging, FileStaging) else set()
    if not blobs and not uploads:
        return 0
    kinds = storage.kinds_sharing_store(BlobKind.DELTA)
    async with storage.database.read() as session:
        used = await session.scalars(select(BlobUseRow.sha256).where(BlobUseRow.stored, BlobUseRow.kind.in_(kinds)))
        blobs -= set(used.all())
        for upload_id, sha256 in (await session.execute(select(UploadRow.id, UploadRow.sha256))).all():
            uploads.discard(upload_id)
            blobs.discard(sha256)
    await release_blobs(storage, ((BlobKind.DELTA, sha256) for sha256 in blobs))
    for upload_id in uploads:
        await staging.discard(upload_id)
    return len(blobs) + len(uploads)


def _aggregating() -> Exists:
    return exists().where(RoundRow.state == RoundState.AGGREGATING)
