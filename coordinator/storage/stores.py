"""The two interfaces of storage: ``BlobStore`` keeps whole blobs, ``Staging`` collects the chunks of an upload.

A blob is checked against its digest when it comes in, and when the engine reads it whole.
"""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.disk_full import translate_disk_full
from coordinator.errors import CorruptBlob
from coordinator.storage.scratch import scratch_file
from shared.digest import sha256_file
from shared.wire.base import BlobRef

CHUNK_BYTES = 4 << 20
"""Bytes of one row of a blob in the database, and of one read of a file."""


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
            with translate_disk_full():
                async for chunk in self.read(ref, 0, ref.n_bytes):
                    await asyncio.to_thread(file.write, chunk)
                file.flush()
            path = Path(file.name)
            await check_digest(path, ref)
            yield path


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


async def check_digest(path: Path, ref: BlobRef) -> None:
    """Raise CorruptBlob unless the file has the digest."""
    found = await asyncio.to_thread(sha256_file, path)
    if found != ref.sha256:
        raise CorruptBlob(ref.sha256, found)
