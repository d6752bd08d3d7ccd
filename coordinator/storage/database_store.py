"""Blobs and uploads as rows in the database, for replicas that share no folder."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import CursorResult, Insert, LargeBinary, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.disk_full import translate_disk_full
from coordinator.database.prepared import Prepared, Transaction, given
from coordinator.database.sessions import after_commit
from coordinator.database.sqlite.statements import not_overwritten
from coordinator.database.tables import BlobChunkRow, BlobRow, BlobUseRow, UploadRow
from coordinator.errors import NotFound
from coordinator.storage.chunks.spooled import SpooledStaging
from coordinator.storage.references import is_aggregating, is_needed
from coordinator.storage.scratch import scratch_file
from coordinator.storage.stores import CHUNK_BYTES, BlobStore
from shared.states import BlobKind
from shared.wire.base import BlobRef

_UPLOAD = "upload:"
"""What the names of uploads begin with in the table of chunks, and digests do not."""
_SMALL_BYTES = 64 << 10
"""A blob of at most so many is read in the event loop's thread: that takes less time than the way to another."""

_HAS = Prepared(select(BlobRow.sha256).where(BlobRow.sha256 == given("sha256")))
_PARTS = Prepared(
    select(BlobChunkRow.offset, func.length(BlobChunkRow.data)).where(
        BlobChunkRow.blob == given("blob"), BlobChunkRow.offset >= given("offset")
    )
)
_STORED_BYTES = Prepared(
    select(func.coalesce(func.sum(func.length(BlobChunkRow.data)), 0)).where(BlobChunkRow.blob == given("blob"))
)
_DATA = Prepared(
    select(BlobChunkRow.data).where(BlobChunkRow.blob == given("blob"), BlobChunkRow.offset == given("offset"))
)
_PART = (BlobChunkRow.blob == given("blob"), BlobChunkRow.offset == given("offset"))
_DELETE_PART = Prepared(delete(BlobChunkRow).where(*_PART))
_CUT_PART = Prepared(
    update(BlobChunkRow)
    .where(*_PART)
    .values(data=func.substr(BlobChunkRow.data, 1, given("n_bytes"), type_=LargeBinary))
)


class DatabaseStore(BlobStore):
    """Blobs as rows of chunks. The blob's own row is committed last, with the last chunk, so a blob is stored
    completely or not at all."""

    @property
    def place(self) -> str:
        return "the database"

    @property
    def deletes_at_once(self) -> int:
        # where SQLite overwrites what it deletes, other writers wait: 1/3 s for 100 MB
        return 1 if self._database.is_sqlite else super().deletes_at_once

    async def put(self, path: Path, ref: BlobRef) -> None:
        while not await self.has(ref.sha256):
            last = await self._put_chunks(path, ref)
            if await self._put_row(ref, last):
                return

    async def _put_chunks(self, path: Path, ref: BlobRef) -> dict[str, Any]:
        """Insert all chunks but the last, which goes with the blob's row. Returns that one. No blob is empty."""
        assert ref.n_bytes > 0
        with translate_disk_full(), path.open("rb") as file:
            for offset in range(0, ref.n_bytes, CHUNK_BYTES):
                data = await asyncio.to_thread(file.read, CHUNK_BYTES)
                chunk = {"blob": ref.sha256, "offset": offset, "data": data}
                if offset + CHUNK_BYTES < ref.n_bytes:
                    # a transaction for each chunk: a single one would block SQLite's other writers
                    async with self._database.write("chunk of a blob") as session:
                        await session.execute(self._insert(BlobChunkRow), chunk)
        return chunk

    async def _put_row(self, ref: BlobRef, last_chunk: dict[str, Any]) -> bool:
        """Insert the blob's row and its last chunk. Returns False if other chunks are missing: another process may have
        put the same blob, and deleted it together with our chunks.

        The row is inserted before all else, because the insert waits for a deletion in progress.
        """
        async with self._database.write("blob") as session:
            await session.execute(self._insert(BlobRow), ref.model_dump())
            await session.execute(self._insert(BlobChunkRow), last_chunk)
            [(n_bytes,)] = await _STORED_BYTES.rows(session, blob=ref.sha256)
            if n_bytes != ref.n_bytes:
                await session.execute(delete(BlobRow).where(BlobRow.sha256 == ref.sha256))
        return bool(n_bytes == ref.n_bytes)

    def _insert(self, kind: type[BlobRow | BlobChunkRow]) -> Insert:
        dialect = sqlite if self._database.is_sqlite else postgresql
        statement: sqlite.Insert | postgresql.Insert = dialect.insert(kind)
        return statement.on_conflict_do_nothing()

    async def has(self, sha256: str) -> bool:
        return bool(await self._database.ask(_HAS, sha256=sha256))

    async def read(self, ref: BlobRef, start: int, end: int) -> AsyncIterator[bytes]:
        offset = start - start % CHUNK_BYTES
        while offset < end:
            rows: Sequence[Sequence[bytes]]
            if ref.n_bytes <= _SMALL_BYTES:
                rows = await self._database.ask(_DATA, blob=ref.sha256, offset=offset)
            else:
                of_blob = (BlobChunkRow.blob == ref.sha256, BlobChunkRow.offset == offset)
                rows = await self._database.fetch(select(BlobChunkRow.data).where(*of_blob))
            if not rows:
                raise NotFound("blob", ref.sha256)
            [(data,)] = rows
            yield data[max(0, start - offset) : end - offset]
            offset += CHUNK_BYTES

    async def names(self) -> set[str]:
        chunks = select(BlobChunkRow.blob).where(~BlobChunkRow.blob.startswith(_UPLOAD))
        return {name for (name,) in await self._database.fetch(chunks.union(select(BlobRow.sha256)))}

    async def delete(self, session: AsyncSession, sha256: str) -> None:
        deleted = await session.scalar(delete(BlobRow).where(BlobRow.sha256 == sha256).returning(BlobRow.sha256))
        if deleted is None:  # chunks without the row belong to a put in progress
            return
        chunks = delete(BlobChunkRow).where(BlobChunkRow.blob == sha256)
        if self._database.is_sqlite and not self.of_clients and await _was_given_out(session, sha256):
            async with not_overwritten(session):
                await session.execute(chunks)
        else:
            await session.execute(chunks)
            after_commit(session, self._database.note_deleted)

    @asynccontextmanager
    async def moved_to(self, data_dir: Path) -> AsyncIterator[None]:  # noqa: ARG002
        yield  # nothing is in the data folder

    async def pin(self, session: AsyncSession, sha256: str) -> None:
        query = select(BlobRow.sha256).where(BlobRow.sha256 == sha256)
        if await session.scalar(query.with_for_update(read=True, key_share=True)) is None:
            raise NotFound("blob", sha256)

    async def lock(self, session: AsyncSession, digests: Sequence[str]) -> None:
        rows = select(BlobRow.sha256).where(BlobRow.sha256.in_(digests)).order_by(BlobRow.sha256)
        await session.execute(rows.with_for_update())

    async def orphans(self, kinds: Sequence[BlobKind]) -> set[str]:
        query = select(BlobRow.sha256).where(~is_needed(BlobRow.sha256, kinds), ~is_aggregating())
        return {sha256 for (sha256,) in await self._database.fetch(query)}

    async def delete_loose(self, kinds: Sequence[BlobKind]) -> int:
        """Delete chunks of blobs that were never completed, and of uploads that are gone, wherever uploads are now.

        One statement, so that it never sees chunks without the row that announced them.
        """
        is_of_upload = BlobChunkRow.blob.startswith(_UPLOAD)
        has_upload = exists().where(UploadRow.id == func.substr(BlobChunkRow.blob, len(_UPLOAD) + 1))
        is_whole = exists().where(BlobRow.sha256 == BlobChunkRow.blob)
        is_announced = is_needed(BlobChunkRow.blob, kinds) | is_aggregating()
        loose = delete(BlobChunkRow).where((is_of_upload & ~has_upload) | (~is_of_upload & ~is_whole & ~is_announced))
        async with self._database.write("loose chunks") as session:
            result = await session.execute(loose.execution_options(synchronize_session=False))
            assert isinstance(result, CursorResult)
            if result.rowcount:
                after_commit(session, self._database.note_deleted)
            return result.rowcount


async def _was_given_out(session: AsyncSession, sha256: str) -> bool:
    """Whether a blob is one that every client of a campaign got, and nothing else."""
    uses = await session.scalars(select(BlobUseRow.kind).where(BlobUseRow.sha256 == sha256).distinct())
    kinds = set(uses.all())
    return bool(kinds) and kinds <= {BlobKind.ADAPTER, BlobKind.BROADCAST}


class DatabaseStaging(SpooledStaging):
    """Uploaded chunks as rows, for replicas that share no folder."""

    @staticmethod
    def _key(upload_id: str) -> str:
        return _UPLOAD + upload_id

    async def write(self, upload_id: str, offset: int, part: bytes) -> None:
        insert = (sqlite if self._database.is_sqlite else postgresql).insert(BlobChunkRow)
        # if two replicas write at the same offset, keep the longer part: the recorded offset may be its end
        longer = func.length(insert.excluded.data) > func.length(BlobChunkRow.data)
        keep_longer = insert.on_conflict_do_update(
            index_elements=["blob", "offset"], set_={"data": insert.excluded.data}, where=longer
        )
        with translate_disk_full():
            async with self._database.write("chunk of an upload") as session:
                await session.execute(keep_longer, {"blob": self._key(upload_id), "offset": offset, "data": part})

    async def trim(self, transaction: Transaction, upload_id: str, offset: int, end: int) -> None:
        key = self._key(upload_id)
        for start, n_bytes in await _PARTS.rows(transaction, blob=key, offset=offset):
            fits = min(CHUNK_BYTES, end - start) if (start - offset) % CHUNK_BYTES == 0 else 0
            if fits <= 0:
                await _DELETE_PART.rows(transaction, blob=key, offset=start)
            elif n_bytes > fits:
                await _CUT_PART.rows(transaction, blob=key, offset=start, n_bytes=fits)

    @asynccontextmanager
    async def as_file(self, upload_id: str, scratch: Path) -> AsyncIterator[Path]:
        query = select(BlobChunkRow.offset).where(BlobChunkRow.blob == self._key(upload_id))
        with scratch_file(scratch) as file:
            async with self._database.read() as session:
                offsets = (await session.scalars(query.order_by(BlobChunkRow.offset))).all()
                for offset in offsets or [0]:
                    row = await session.get(BlobChunkRow, (self._key(upload_id), offset))
                    if row is None:  # deleted meanwhile
                        raise FileNotFoundError(errno.ENOENT, "the upload's bytes are gone", upload_id)
                    with translate_disk_full():
                        await asyncio.to_thread(os.pwrite, file.fileno(), row.data, offset)
                    session.expunge(row)
            yield Path(file.name)

    async def names(self) -> set[str]:
        chunks = select(BlobChunkRow.blob).where(BlobChunkRow.blob.startswith(_UPLOAD)).distinct()
        return {name.removeprefix(_UPLOAD) for (name,) in await self._database.fetch(chunks)}

    async def orphans(self) -> set[str]:
        """None: the statement of ``DatabaseStore.delete_loose`` deletes them, and every storage has such a store."""
        return set()

    async def discard(self, upload_id: str) -> None:
        async with self._database.write("discard chunks") as session:
            await session.execute(delete(BlobChunkRow).where(BlobChunkRow.blob == self._key(upload_id)))
            after_commit(session, self._database.note_deleted)
