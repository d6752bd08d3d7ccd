"""Blobs and uploads as rows in the database, for replicas that share no folder."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.disk_full import translate_disk_full
from coordinator.database.sessions import Database
from coordinator.database.tables import BlobChunkRow, BlobRow
from coordinator.errors import NotFound
from coordinator.storage.scratch import scratch_file
from coordinator.storage.stores import CHUNK_BYTES, BlobStore, Staging
from shared.wire.base import BlobRef


class DatabaseStore(BlobStore):
    """Blobs as rows of chunks. The blob's own row is written last, so a blob is stored completely or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, path: Path, ref: BlobRef) -> None:
        while not await self.has(ref.sha256):
            await self._put_chunks(path, ref)
            if await self._put_row(ref):
                return

    async def _put_chunks(self, path: Path, ref: BlobRef) -> None:
        insert = (sqlite if self._database.is_sqlite else postgresql).insert
        with translate_disk_full(), path.open("rb") as file:
            offset = 0
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                # a transaction for each chunk: a single one would block SQLite's other writers
                async with self._database.write("chunk of a blob") as session:
                    row = {"blob": ref.sha256, "offset": offset, "data": chunk}
                    await session.execute(insert(BlobChunkRow).on_conflict_do_nothing(), row)
                offset += len(chunk)

    async def _put_row(self, ref: BlobRef) -> bool:
        """Insert the blob's row. Returns False if chunks are missing: another process may have put the same blob, and
        deleted it together with our chunks.

        The row is inserted before the check, because the insert waits for a deletion in progress.
        """
        insert = (sqlite if self._database.is_sqlite else postgresql).insert
        stored_bytes = select(func.coalesce(func.sum(func.length(BlobChunkRow.data)), 0)).where(
            BlobChunkRow.blob == ref.sha256
        )
        async with self._database.write("blob") as session:
            await session.execute(insert(BlobRow).on_conflict_do_nothing(), ref.model_dump())
            is_whole = await session.scalar(stored_bytes) == ref.n_bytes
            if not is_whole:
                await session.execute(delete(BlobRow).where(BlobRow.sha256 == ref.sha256))
        return is_whole

    async def has(self, sha256: str) -> bool:
        return bool(await self._database.fetch(select(BlobRow.sha256).where(BlobRow.sha256 == sha256)))

    async def read(self, ref: BlobRef, start: int, end: int) -> AsyncIterator[bytes]:
        offset = start - start % CHUNK_BYTES
        while offset < end:
            of_blob = (BlobChunkRow.blob == ref.sha256, BlobChunkRow.offset == offset)
            rows = await self._database.fetch(select(BlobChunkRow.data).where(*of_blob))
            if not rows:
                raise NotFound("blob", ref.sha256)
            [(data,)] = rows
            yield data[max(0, start - offset) : end - offset]
            offset += CHUNK_BYTES

    async def delete(self, session: AsyncSession, sha256: str) -> None:
        deleted = await session.scalar(delete(BlobRow).where(BlobRow.sha256 == sha256).returning(BlobRow.sha256))
        if deleted is not None:  # chunks without the row belong to a put in progress
            await session.execute(delete(BlobChunkRow).where(BlobChunkRow.blob == sha256))


class DatabaseStaging(Staging):
    """Uploaded chunks as rows, for replicas that share no folder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def _key(upload_id: str) -> str:
        return f"upload:{upload_id}"

    async def write(self, upload_id: str, offset: int, data: bytes) -> None:
        insert = (sqlite if self._database.is_sqlite else postgresql).insert(BlobChunkRow)
        # if two replicas write at the same offset, keep the longer chunk: the recorded offset may be its end
        longer = func.length(insert.excluded.data) > func.length(BlobChunkRow.data)
        keep_longer = insert.on_conflict_do_update(
            index_elements=["blob", "offset"], set_={"data": insert.excluded.data}, where=longer
        )
        with translate_disk_full():
            async with self._database.write("chunk of an upload") as session:
                await session.execute(keep_longer, {"blob": self._key(upload_id), "offset": offset, "data": data})

    @asynccontextmanager
    async def as_file(self, upload_id: str, scratch: Path) -> AsyncIterator[Path]:
        query = select(BlobChunkRow.offset).where(BlobChunkRow.blob == self._key(upload_id))
        with scratch_file(scratch) as file:
            async with self._database.read() as session:
                for offset in (await session.scalars(query.order_by(BlobChunkRow.offset))).all():
                    row = await session.get_one(BlobChunkRow, (self._key(upload_id), offset))
                    with translate_disk_full():
                        await asyncio.to_thread(os.pwrite, file.fileno(), row.data, offset)
                    session.expunge(row)
            yield Path(file.name)

    async def discard(self, upload_id: str) -> None:
        async with self._database.write("discard chunks") as session:
            await session.execute(delete(BlobChunkRow).where(BlobChunkRow.blob == self._key(upload_id)))
