"""Bytes that no row speaks of any more, because a process was killed between two steps: found, and let go of.

Whoever puts a blob names it first (an upload's row; a round that is aggregated) and counts on it afterwards, so a blob
that is neither is nobody's. Nothing is lost where one is taken that somebody was about to use after all: who counts on
it finds it gone, and makes it again.
"""

import asyncio

from sqlalchemy import CursorResult, Exists, delete, exists, func, select

from coordinator.blobs.retention import collect, let_go
from coordinator.deps import Services
from coordinator.storage import FileBlobs, FileStaging
from coordinator.tables import BlobChunkRow, BlobRow, BlobUseRow, CampaignRow, RoundRow, UploadRow
from shared.states import BlobKind, RoundState

_UPLOAD = "upload:"


async def sweep_orphans(at: Services) -> int:
    """Let go of what is nobody's; how many blobs, uploads and loose chunks that were. What an aggregation that goes on
    has stored is looked at when there is none."""
    return await _overdue(at) + await _whole_blobs(at) + await _loose_chunks(at) + await _files(at)


async def _overdue(at: Services) -> int:
    """What retention does not keep: an engine that died as it closed a round left it to the end of the next one, and
    after the last round there is none."""
    with_blobs = exists().where(BlobUseRow.campaign_id == CampaignRow.id, BlobUseRow.stored)
    async with at.database.read() as session:
        campaigns = (await session.scalars(select(CampaignRow.id).where(with_blobs))).all()
    return sum([await collect(at, campaign_id) for campaign_id in campaigns])


async def _whole_blobs(at: Services) -> int:
    kinds = at.storage.kinds_beside(BlobKind.ADAPTER)
    used = exists().where(BlobUseRow.sha256 == BlobRow.sha256, BlobUseRow.stored, BlobUseRow.kind.in_(kinds))
    awaited = exists().where(UploadRow.sha256 == BlobRow.sha256)
    query = select(BlobRow.sha256).where(~used, ~awaited, ~_aggregating())
    async with at.database.read() as session:
        orphans = (await session.scalars(query)).all()
    await let_go(at, ((BlobKind.ADAPTER, sha256) for sha256 in orphans))
    return len(orphans)


async def _loose_chunks(at: Services) -> int:
    """Chunks of blobs that were not put to their end, and of uploads that are gone; in one statement, so that it never
    sees the chunks without seeing what they are put for."""
    is_of_upload = BlobChunkRow.blob.startswith(_UPLOAD)
    has_upload = exists().where(UploadRow.id == func.substr(BlobChunkRow.blob, len(_UPLOAD) + 1))
    is_whole = exists().where(BlobRow.sha256 == BlobChunkRow.blob)
    awaited = exists().where(UploadRow.sha256 == BlobChunkRow.blob)
    loose = delete(BlobChunkRow).where(
        (is_of_upload & ~has_upload) | (~is_of_upload & ~is_whole & ~awaited & ~_aggregating())
    )
    async with at.database.write("loose chunks") as session:
        result = await session.execute(loose.execution_options(synchronize_session=False))
        assert isinstance(result, CursorResult)
        return result.rowcount


async def _files(at: Services) -> int:
    """Files of updates that nobody uses, and of uploads that are gone, where they are kept as files."""
    store, staging = at.storage.store_of(BlobKind.DELTA), at.storage.staging
    # the files first: what comes in between has its row before its file
    blobs = await asyncio.to_thread(store.names) if isinstance(store, FileBlobs) else set()
    uploads = await asyncio.to_thread(staging.names) if isinstance(staging, FileStaging) else set()
    if not blobs and not uploads:
        return 0
    kinds = at.storage.kinds_beside(BlobKind.DELTA)
    async with at.database.read() as session:
        used = await session.scalars(select(BlobUseRow.sha256).where(BlobUseRow.stored, BlobUseRow.kind.in_(kinds)))
        blobs -= set(used.all())
        for upload_id, sha256 in (await session.execute(select(UploadRow.id, UploadRow.sha256))).all():
            uploads.discard(upload_id)
            blobs.discard(sha256)
    await let_go(at, ((BlobKind.DELTA, sha256) for sha256 in blobs))
    for upload_id in uploads:
        await staging.discard(upload_id)
    return len(blobs) + len(uploads)


def _aggregating() -> Exists:
    return exists().where(RoundRow.state == RoundState.AGGREGATING)
