"""Blobs: immutable bytes named by their SHA-256, in the database or in the data folder, behind one interface.

    BlobStore     keeps whole blobs: put a file, read a range, have it as a local file, delete
    Staging       collects the chunks of an upload until it is whole
    Storage       says which blob is kept where

A blob is checked against its digest when it comes in, and when it is read whole by the engine.
"""

import asyncio
import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.db import Database
from coordinator.errors import CorruptBlob, NotFound
from coordinator.full_storage import full_storage_is_said
from coordinator.scratch import scratch_file
from coordinator.tables import BlobChunkRow, BlobRow
from shared import crash_points
from shared.digest import sha256_file
from shared.durable import sync_folder
from shared.states import BlobKind
from shared.wire.base import BlobRef

CHUNK_BYTES = 4 << 20
"""Bytes of one row of a blob in the database."""


class BlobStore(ABC):
    """Keeps whole blobs."""

    @abstractmethod
    async def put(self, path: Path, ref: BlobRef) -> None:
        """Keep a local file whose digest was checked, and take the file away where that saves copying it. Does nothing
        where the blob is there. Raises StorageFull."""

    @abstractmethod
    async def has(self, sha256: str) -> bool:
        """Whether the blob is there, whole."""

    @abstractmethod
    def read(self, ref: BlobRef, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes [start, end). Raises NotFound."""

    @abstractmethod
    async def delete(self, session: AsyncSession, sha256: str) -> None:
        """Let go of a blob, in the transaction that saw that nobody uses it; nothing happens where it is not there."""

    async def check(self, ref: BlobRef) -> None:
        """Read a blob whole. Raises NotFound, and CorruptBlob where its bytes do not have its digest."""
        found = hashlib.sha256()
        async for chunk in self.read(ref, 0, ref.n_bytes):
            await asyncio.to_thread(found.update, chunk)
        if found.hexdigest() != ref.sha256:
            raise CorruptBlob(ref.sha256, found.hexdigest())

    @asynccontextmanager
    async def as_file(self, ref: BlobRef, scratch: Path) -> AsyncIterator[Path]:
        """The blob as a local file for the length of the block, checked against its digest.

        Raises NotFound and CorruptBlob.
        """
        with scratch_file(scratch) as file:
            with full_storage_is_said():
                async for chunk in self.read(ref, 0, ref.n_bytes):
                    await asyncio.to_thread(file.write, chunk)
                file.flush()
            path = Path(file.name)
            await _check_digest(path, ref)
            yield path


class FileBlobs(BlobStore):
    """Blobs as files: staged in the same data folder, synced there, renamed into place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    async def put(self, path: Path, ref: BlobRef) -> None:
        with full_storage_is_said():
            await asyncio.to_thread(self._move, path, self.path(ref.sha256))

    @staticmethod
    def _move(path: Path, target: Path) -> None:
        # the staged file was synced chunk by chunk and lies in the same data folder; its new name is synced here
        target.parent.mkdir(parents=True, exist_ok=True)
        crash_points.reach("update: checked")
        path.replace(target)
        crash_points.reach("update: renamed")
        sync_folder(target.parent)
        sync_folder(target.parent.parent)

    def names(self) -> set[str]:
        """The digests of all blobs that are here."""
        return {path.name for path in self._folder.glob("??/*")}

    async def has(self, sha256: str) -> bool:
        return await asyncio.to_thread(self.path(sha256).exists)

    async def read(self, ref: BlobRef, start: int, end: int) -> AsyncIterator[bytes]:
        try:
            file = self.path(ref.sha256).open("rb")
        except FileNotFoundError as error:
            raise NotFound("blob", ref.sha256) from error
        with file:
            file.seek(start)
            while start < end:
                chunk = await asyncio.to_thread(file.read, min(CHUNK_BYTES, end - start))
                if not chunk:
                    raise NotFound("blob", ref.sha256)
                start += len(chunk)
                yield chunk

    async def delete(self, session: AsyncSession, sha256: str) -> None:  # noqa: ARG002
        await asyncio.to_thread(self.path(sha256).unlink, missing_ok=True)
        crash_points.reach("update: deleted")

    @asynccontextmanager
    async def as_file(self, ref: BlobRef, scratch: Path) -> AsyncIterator[Path]:  # noqa: ARG002
        path = self.path(ref.sha256)
        if not await self.has(ref.sha256):
            raise NotFound("blob", ref.sha256)
        await _check_digest(path, ref)
        yield path


class DatabaseBlobs(BlobStore):
    """Blobs as rows of chunks. The blob's own row comes last, so it is there whole or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, path: Path, ref: BlobRef) -> None:
        while not await self.has(ref.sha256):
            await self._put_chunks(path, ref)
            if await self._put_row(ref):
                return

    async def _put_chunks(self, path: Path, ref: BlobRef) -> None:
        insert = (sqlite if self._database.is_sqlite else postgresql).insert
        with full_storage_is_said(), path.open("rb") as file:
            offset = 0
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                # a transaction for each chunk: one for all would keep every other writer of SQLite waiting
                async with self._database.write("chunk of a blob") as session:
                    row = {"blob": ref.sha256, "offset": offset, "data": chunk}
                    await session.execute(insert(BlobChunkRow).on_conflict_do_nothing(), row)
                offset += len(chunk)

    async def _put_row(self, ref: BlobRef) -> bool:
        """Say that the blob is there; False where it is not any more. Somebody else may have put the same blob, and let
        go of it and of our chunks with it. The row comes first: it waits for whoever is letting go of it just now."""
        insert = (sqlite if self._database.is_sqlite else postgresql).insert
        there = select(func.coalesce(func.sum(func.length(BlobChunkRow.data)), 0)).where(
            BlobChunkRow.blob == ref.sha256
        )
        async with self._database.write("blob") as session:
            await session.execute(insert(BlobRow).on_conflict_do_nothing(), ref.model_dump())
            is_whole = await session.scalar(there) == ref.n_bytes
            if not is_whole:
                await session.execute(delete(BlobRow).where(BlobRow.sha256 == ref.sha256))
        return is_whole

    async def has(self, sha256: str) -> bool:
        return bool(await self._database.fetch(select(BlobRow.sha256).where(BlobRow.sha256 == sha256)))

    async def read(self, ref: BlobRef, start: int, end: int) -> AsyncIterator[bytes]:
        offset = start - start % CHUNK_BYTES
        while offset < end:
            of_blob = (BlobChunkRow.blob == ref.sha256, BlobChunkRow.offset == offset)
            found = await self._database.fetch(select(BlobChunkRow.data).where(*of_blob))
            if not found:
                raise NotFound("blob", ref.sha256)
            [(data,)] = found
            yield data[max(0, start - offset) : end - offset]
            offset += CHUNK_BYTES

    async def delete(self, session: AsyncSession, sha256: str) -> None:
        whole = await session.scalar(delete(BlobRow).where(BlobRow.sha256 == sha256).returning(BlobRow.sha256))
        if whole is not None:  # chunks without the row are of somebody who is putting the blob just now
            await session.execute(delete(BlobChunkRow).where(BlobChunkRow.blob == sha256))


class Staging(ABC):
    """Collects the chunks of an upload until it is whole."""

    @abstractmethod
    async def write(self, upload_id: str, offset: int, data: bytes) -> None:
        """Keep a chunk durably. The same place may be written again. Raises StorageFull."""

    @abstractmethod
    def as_file(self, upload_id: str, scratch: Path) -> AbstractAsyncContextManager[Path]:
        """The upload as a local file for the length of the block."""

    @abstractmethod
    async def discard(self, upload_id: str) -> None:
        """Throw an upload away; nothing happens where there is none."""


class FileStaging(Staging):
    """One growing file for each upload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> set[str]:
        """The ids of all uploads that have bytes here."""
        return {path.name for path in self._folder.iterdir()}

    async def write(self, upload_id: str, offset: int, data: bytes) -> None:
        with full_storage_is_said():
            await asyncio.to_thread(self._write, self._folder / upload_id, offset, data)

    @staticmethod
    def _write(path: Path, offset: int, data: bytes) -> None:
        is_new = offset == 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written
            crash_points.reach("chunk: written")
            os.fsync(descriptor)
            crash_points.reach("chunk: synced")
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(path.parent)

    @asynccontextmanager
    async def as_file(self, upload_id: str, scratch: Path) -> AsyncIterator[Path]:  # noqa: ARG002
        yield self._folder / upload_id

    async def discard(self, upload_id: str) -> None:
        await asyncio.to_thread((self._folder / upload_id).unlink, missing_ok=True)
        crash_points.reach("upload: deleted")


class DatabaseStaging(Staging):
    """Chunks as rows, for replicas that share no folder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def _key(upload_id: str) -> str:
        return f"upload:{upload_id}"

    async def write(self, upload_id: str, offset: int, data: bytes) -> None:
        insert = (sqlite if self._database.is_sqlite else postgresql).insert(BlobChunkRow)
        # of two replicas that write the same place the longer chunk stays: the other's end may be what counts
        longer = func.length(insert.excluded.data) > func.length(BlobChunkRow.data)
        either = insert.on_conflict_do_update(
            index_elements=["blob", "offset"], set_={"data": insert.excluded.data}, where=longer
        )
        with full_storage_is_said():
            async with self._database.write("chunk of an upload") as session:
                await session.execute(either, {"blob": self._key(upload_id), "offset": offset, "data": data})

    @asynccontextmanager
    async def as_file(self, upload_id: str, scratch: Path) -> AsyncIterator[Path]:
        query = select(BlobChunkRow.offset).where(BlobChunkRow.blob == self._key(upload_id))
        with scratch_file(scratch) as file:
            async with self._database.read() as session:
                for offset in (await session.scalars(query.order_by(BlobChunkRow.offset))).all():
                    row = await session.get_one(BlobChunkRow, (self._key(upload_id), offset))
                    with full_storage_is_said():
                        await asyncio.to_thread(os.pwrite, file.fileno(), row.data, offset)
                    session.expunge(row)
            yield Path(file.name)

    async def discard(self, upload_id: str) -> None:
        async with self._database.write("discard chunks") as session:
            await session.execute(delete(BlobChunkRow).where(BlobChunkRow.blob == self._key(upload_id)))


class Storage:
    """Says which blob is kept where: updates are many and short-lived, adapters belong beside their lineage."""

    def __init__(self, database: Database, data_dir: Path, *, updates: str) -> None:
        self.scratch = data_dir / "scratch"
        self.data_dir = data_dir
        folders = [self.scratch]
        self._adapters: BlobStore = DatabaseBlobs(database)
        self._updates: BlobStore = self._adapters
        self.staging: Staging = DatabaseStaging(database)
        if updates == "files":
            self._updates = FileBlobs(data_dir / "updates")
            self.staging = FileStaging(data_dir / "uploads")
            folders += [data_dir / "updates", data_dir / "uploads"]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)

    def store_of(self, kind: BlobKind) -> BlobStore:
        """Where blobs of a kind are kept."""
        return self._updates if kind in (BlobKind.DELTA, BlobKind.EXTRAS) else self._adapters

    def kinds_beside(self, kind: BlobKind) -> list[BlobKind]:
        """The kinds that are kept in the same store as a kind; equal bytes of theirs are kept once."""
        return [other for other in BlobKind if self.store_of(other) is self.store_of(kind)]

    @property
    def free_bytes(self) -> int:
        """Room left on the data folder's disk."""
        return shutil.disk_usage(self.data_dir).free


async def _check_digest(path: Path, ref: BlobRef) -> None:
    found = await asyncio.to_thread(sha256_file, path)
    if found != ref.sha256:
        raise CorruptBlob(ref.sha256, found)
