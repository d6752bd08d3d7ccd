"""A further store of updates, as another storage would be added: a deeper tree of files, and a file for each chunk.

It copies where ``FileStore`` moves, and keeps chunks apart where ``FileStaging`` has one growing file.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from unittest.mock import patch

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.disk_full import translate_disk_full
from coordinator.database.prepared import Transaction
from coordinator.database.sessions import Database
from coordinator.errors import NotFound
from coordinator.storage.chunks.spooled import SpooledStaging
from coordinator.storage.moved_tree import moved_tree
from coordinator.storage.scratch import scratch_file
from coordinator.storage.storage import STORES
from coordinator.storage.stores import CHUNK_BYTES, BlobStore
from shared.system.durable import atomic_write, sync_folder
from shared.wire.base import BlobRef

BLOBS, CHUNKS = "tree", "pieces"
"""The folders in the data folder."""


class TreeStore(BlobStore):
    """Blobs as files named ab/cd/REST.blob."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        super().__init__(database, data_dir)
        self._folder = data_dir / BLOBS
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def place(self) -> str:
        return f"the tree {self._folder}"

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256[2:4] / f"{sha256[4:]}.blob"

    async def put(self, path: Path, ref: BlobRef) -> None:
        with translate_disk_full():
            await asyncio.to_thread(self._copy, path, self._path(ref.sha256))

    @staticmethod
    def _copy(path: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, atomic_write(target) as copy:
            shutil.copyfileobj(source, copy)

    async def has(self, sha256: str) -> bool:
        return self._path(sha256).exists()

    async def read(self, ref: BlobRef, start: int, end: int) -> AsyncIterator[bytes]:
        if not self._path(ref.sha256).exists():
            raise NotFound("blob", ref.sha256)
        with self._path(ref.sha256).open("rb") as file:
            file.seek(start)
            while start < end:
                chunk = file.read(min(CHUNK_BYTES, end - start))
                if not chunk:
                    raise NotFound("blob", ref.sha256)
                start += len(chunk)
                yield chunk

    async def names(self) -> set[str]:
        return {
            "".join(path.relative_to(self._folder).with_suffix("").parts) for path in self._folder.glob("*/*/*.blob")
        }

    async def delete(self, session: AsyncSession, sha256: str) -> None:
        self._path(sha256).unlink(missing_ok=True)

    @asynccontextmanager
    async def moved_to(self, data_dir: Path) -> AsyncIterator[None]:
        with moved_tree(self._folder, data_dir / BLOBS):
            yield


class TreeStaging(SpooledStaging):
    """Chunks as files named UPLOAD/OFFSET."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        super().__init__(database, data_dir)
        self._folder = data_dir / CHUNKS
        self._folder.mkdir(parents=True, exist_ok=True)

    async def write(self, upload_id: str, offset: int, part: bytes) -> None:
        path = self._folder / upload_id / str(offset)
        path.parent.mkdir(exist_ok=True)
        with (
            translate_disk_full(),
            path.open("r+b" if path.exists() else "w+b") as file,
        ):  # the longer of two chunks stays
            file.write(part)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)

    async def trim(self, transaction: Transaction, upload_id: str, offset: int, end: int) -> None:
        for path in (self._folder / upload_id).iterdir():
            start = int(path.name)
            if start >= end or (start > offset and (start - offset) % CHUNK_BYTES):
                path.unlink()
            elif start >= offset:
                os.truncate(path, min(path.stat().st_size, CHUNK_BYTES, end - start))

    @asynccontextmanager
    async def as_file(self, upload_id: str, scratch: Path) -> AsyncIterator[Path]:
        with scratch_file(scratch) as file:
            for chunk in sorted((self._folder / upload_id).iterdir(), key=lambda path: int(path.name)):
                file.seek(int(chunk.name))
                file.write(chunk.read_bytes())
            file.flush()
            yield Path(file.name)

    async def names(self) -> set[str]:
        return {path.name for path in self._folder.iterdir()}

    async def discard(self, upload_id: str) -> None:
        shutil.rmtree(self._folder / upload_id, ignore_errors=True)


@contextmanager
def known() -> Iterator[None]:
    """Let the setting ``storage.updates`` name it "tree" while the block runs."""
    with patch.dict(STORES, {"tree": (TreeStore, TreeStaging)}):
        yield
