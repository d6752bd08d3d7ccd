"""The two interfaces of storage: ``BlobStore`` stores complete blobs, ``Staging`` collects the chunks of an upload.

A blob is checked against its digest on arrival, and whenever the engine reads it.
"""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.disk_full import translate_disk_full
from coordinator.errors import CorruptBlob
from coordinator.storage.scratch import scratch_file
from shared.digest import sha256_file
from shared.wire.base import BlobRef

CHUNK_BYTES = 4 << 20
"""Size of one row of a blob in the database, and of one read of a file."""


class BlobStore(ABC):
    """Stores complete blobs."""

    @abstractmethod
    async def put(self, path: Path, ref: BlobRef) -> None:
        """Store a local file whose digest was checked. May move the file instead of copying it.

        Does nothing if the blob is stored already. Raises StorageFull.
        """

    @abstractmethod
    async def has(self, sha256: str) -> bool:
        """Whether the blob is stored completely."""

    @abstractmethod
    def read(self, ref: BlobRef, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes [start, end). Raises NotFound."""

    @abstractmethod
    async def delete(self, session: AsyncSession, sha256: str) -> None:
        """Delete a blob, in the transaction that found it unreferenced. Does nothing if it is not stored."""

    async def check(self, ref: BlobRef) -> None:
        """Read and check a whole blob. Raises NotFound, and CorruptBlob if its bytes do not match its digest."""
        digest = hashlib.sha256()
        async for chunk in self.read(ref, 0, ref.n_bytes):
            await asyncio.to_thread(digest.update, chunk)
        if digest.hexdigest() != ref.sha256:
            raise CorruptBlob(ref.sha256, digest.hexdigest())

    @asynccontextmanager
    async def as_file(self, ref: BlobRef, scratch: Path) -> AsyncIterator[Path]:
        """The blob as a local file while the block runs, checked against its digest.

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
    """Collects the chunks of an upload until it is complete."""

    @abstractmethod
    async def write(self, upload_id: str, offset: int, data: bytes) -> None:
        """Store a chunk durably. The same offset may be written again. Raises StorageFull."""

    @abstractmethod
    def as_file(self, upload_id: str, scratch: Path) -> AbstractAsyncContextManager[Path]:
        """The upload as a local file while the block runs."""

    @abstractmethod
    async def discard(self, upload_id: str) -> None:
        """Delete an upload's bytes. Does nothing if there are none."""


async def check_digest(path: Path, ref: BlobRef) -> None:
    """Raise CorruptBlob unless the file has the blob's digest."""
    sha256 = await asyncio.to_thread(sha256_file, path)
    if sha256 != ref.sha256:
        raise CorruptBlob(ref.sha256, sha256)
