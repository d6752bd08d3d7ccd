"""Blobs and uploads as files in the data folder."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.disk_full import translate_disk_full
from coordinator.database.prepared import Transaction
from coordinator.database.sessions import Database
from coordinator.errors import NotFound
from coordinator.process.threads import TRANSFERS, in_thread
from coordinator.storage.chunks.chunk import Chunk
from coordinator.storage.chunks.file_chunks import FileChunk, RunningDigests, open_locked
from coordinator.storage.moved_tree import moved_tree
from coordinator.storage.stores import CHUNK_BYTES, BlobStore, Staging, check_digest
from shared import crash_points
from shared.system.durable import sync_folder
from shared.wire.base import BlobRef


class FileStore(BlobStore):
    """Blobs as files: staged in the same data folder, synced, then renamed into place."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        super().__init__(database, data_dir)
        self._folder = _folder_of_updates(data_dir)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._durable: set[Path] = set()

    @property
    def place(self) -> str:
        return str(self._folder)

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    async def put(self, path: Path, ref: BlobRef) -> None:
        with translate_disk_full():
            await asyncio.to_thread(self._move, path, self._path(ref.sha256))

    def _move(self, path: Path, target: Path) -> None:
        # the staged file was synced chunk by chunk and lies in the same data folder; its new name is synced here
        folder = target.parent
        if not folder.exists():
            self._durable.discard(folder)
            folder.mkdir(parents=True, exist_ok=True)
        crash_points.reach("update: checked")
        path.replace(target)
        crash_points.reach("update: renamed")
        sync_folder(folder)
        if folder not in self._durable:  # one that is there may be a moment old, made by a process that died
            sync_folder(folder.parent)
            self._durable.add(folder)

    async def has(self, sha256: str) -> bool:
        return await asyncio.to_thread(self._path(sha256).exists)

    async def read(self, ref: BlobRef, start: int, end: int) -> AsyncIterator[bytes]:
        try:
            file = self._path(ref.sha256).open("rb")
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

    async def names(self) -> set[str]:
        return await asyncio.to_thread(lambda: {path.name for path in self._folder.glob("??/*")})

    async def delete(self, session: AsyncSession, sha256: str) -> None:
        await self.delete_all(session, [sha256])

    async def delete_all(self, session: AsyncSession, digests: Sequence[str]) -> None:  # noqa: ARG002
        await asyncio.to_thread(self._delete, digests)

    def _delete(self, digests: Sequence[str]) -> None:
        for sha256 in digests:
            self._path(sha256).unlink(missing_ok=True)
            crash_points.reach("update: deleted")

    @asynccontextmanager
    async def moved_to(self, data_dir: Path) -> AsyncIterator[None]:
        with moved_tree(self._folder, _folder_of_updates(data_dir)):
            yield

    @asynccontextmanager
    async def as_file(self, ref: BlobRef, scratch: Path) -> AsyncIterator[Path]:  # noqa: ARG002
        path = self._path(ref.sha256)
        try:
            await check_digest(path, ref)
        except FileNotFoundError as error:
            raise NotFound("blob", ref.sha256) from error
        yield path


class FileStaging(Staging):
    """One growing file per upload, written to by one request at a time: it holds the file's lock.

    A chunk is written where it belongs before its digest is known: what follows the upload's offset does not count.
    """

    def __init__(self, database: Database, data_dir: Path) -> None:
        super().__init__(database, data_dir)
        self._folder = data_dir / "uploads"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._digests = RunningDigests()

    @asynccontextmanager
    async def chunk(self, upload_id: str, offset: int, scratch: Path) -> AsyncIterator[Chunk]:  # noqa: ARG002
        path = self._folder / upload_id
        descriptor = await in_thread(partial(open_locked, path, offset), TRANSFERS)
        try:
            yield FileChunk(path, descriptor, offset, self._digests)
        finally:
            os.close(descriptor)

    def known_digest(self, upload_id: str, n_bytes: int) -> str | None:
        return self._digests.of(upload_id, n_bytes)

    async def trim(self, transaction: Transaction, upload_id: str, offset: int, end: int) -> None:
        pass  # the next chunk overwrites it in its place

    @asynccontextmanager
    async def as_file(self, upload_id: str, scratch: Path) -> AsyncIterator[Path]:  # noqa: ARG002
        yield self._folder / upload_id

    async def names(self) -> set[str]:
        return await asyncio.to_thread(lambda: {path.name for path in self._folder.iterdir()})

    async def discard(self, upload_id: str) -> None:
        self._digests.forget(upload_id)
        await asyncio.to_thread((self._folder / upload_id).unlink, missing_ok=True)
        crash_points.reach("upload: deleted")


def _folder_of_updates(data_dir: Path) -> Path:
    return data_dir / "updates"
