"""The two interfaces of storage: ``BlobStore`` stores complete blobs, ``Staging`` collects the chunks of an upload.

A blob is checked against its digest on arrival, and whenever the engine reads it.
"""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.disk_full import translate_disk_full
from coordinator.database.prepared import Transaction
from coordinator.database.sessions import Database
from coordinator.database.tables import UploadRow
from coordinator.errors import CorruptBlob, NotFound
from coordinator.storage.chunks.chunk import Chunk
from coordinator.storage.digest_locks import lock_digests
from coordinator.storage.references import needed
from coordinator.storage.scratch import scratch_file
from shared.digest import sha256_file
from shared.states import BlobKind
from shared.wire.base import BlobRef

CHUNK_BYTES = 4 << 20
"""Size of one row of a blob in the database, and of one read of a file."""


class BlobStore(ABC):
    """Stores complete blobs. What is not abstract fits every store; a store overrides it where it knows a better way.

    database: of the rows that reference the blobs. data_dir: the folder for all that is kept outside of the database.
    """

    of_clients = True
    """Whether single clients' updates are among the blobs."""

    def __init__(self, database: Database, data_dir: Path) -> None:  # noqa: ARG002
        self._database = database

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the bytes are, for messages: a folder, or for example "the database"."""

    @property
    def deletes_at_once(self) -> int:
        """Most blobs that one transaction deletes."""
        return 100

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
    async def names(self) -> set[str]:
        """The digests of all blobs of which the store has bytes, even if not all of them."""

    @abstractmethod
    async def delete(self, session: AsyncSession, sha256: str) -> None:
        """Delete a blob, in the transaction that found it unreferenced. Does nothing if it is not stored."""

    async def delete_all(self, session: AsyncSession, digests: Sequence[str]) -> None:
        """Delete several blobs, as ``delete`` does."""
        for sha256 in digests:
            await self.delete(session, sha256)

    @abstractmethod
    def moved_to(self, data_dir: Path) -> AbstractAsyncContextManager[None]:
        """Move what is kept in the data folder to another one, whose store has it from then on. Undone if the block
        raises.

        A restore fills a store in a work folder, and puts it in place together with the database, or not at all.
        """

    async def pin(self, session: AsyncSession, sha256: str) -> None:
        """Prevent the release of a blob until the transaction, which references it, ends. Raises NotFound."""
        await lock_digests(session, [sha256], shared=True)
        if not await self.has(sha256):
            raise NotFound("blob", sha256)

    async def lock(self, session: AsyncSession, digests: Sequence[str]) -> None:
        """Wait for the transactions that have pinned one of the blobs, and keep others from it until this one ends.

        digests: sorted, to prevent deadlocks.
        """
        await lock_digests(session, digests, shared=False)

    async def orphans(self, kinds: Sequence[BlobKind]) -> set[str]:
        """The digests of the blobs that no row needs. kinds: those in this store."""
        names = await self.names()  # before the rows: what is announced meanwhile has its row before its bytes
        if not names:
            return names
        return names - {sha256 for (sha256,) in await self._database.fetch(needed(kinds))}

    async def delete_loose(self, kinds: Sequence[BlobKind]) -> int:  # noqa: ARG002
        """Delete what belongs to no complete blob and was not announced by a row. Returns how many pieces there were.

        A store that shows a blob only once it is complete has none. kinds: those in this store.
        """
        return 0

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
    """Collects the chunks of an upload until it is complete.

    database: of the uploads' rows. data_dir: the folder for all that is kept outside of the database.
    """

    def __init__(self, database: Database, data_dir: Path) -> None:  # noqa: ARG002
        self._database = database

    @abstractmethod
    def chunk(self, upload_id: str, offset: int, scratch: Path) -> AbstractAsyncContextManager[Chunk]:
        """Receive a chunk while the block runs. The same offset may be received again.

        Only one chunk of an upload is received at a time, or written without harm to the other: raises UploadBusy, also
        for one that another process receives. scratch: a folder for files of the block.
        """

    @abstractmethod
    async def trim(self, transaction: Transaction, upload_id: str, offset: int, end: int) -> None:
        """Drop what other chunks, which did not count, left within and behind the chunk [offset, end), if anything.

        Called in the transaction that moves the upload's offset.
        """

    def known_digest(self, upload_id: str, n_bytes: int) -> str | None:  # noqa: ARG002
        """The SHA-256 of an upload of *n_bytes*, if it was computed as they were stored, by this process alone."""
        return None

    @abstractmethod
    def as_file(self, upload_id: str, scratch: Path) -> AbstractAsyncContextManager[Path]:
        """The upload as a local file while the block runs. Raises FileNotFoundError, here or in the block, if its bytes
        are gone."""

    @abstractmethod
    async def names(self) -> set[str]:
        """The ids of all uploads with bytes."""

    @abstractmethod
    async def discard(self, upload_id: str) -> None:
        """Delete an upload's bytes. Does nothing if there are none."""

    async def orphans(self) -> set[str]:
        """The ids of the uploads that have bytes, but no row any more."""
        names = await self.names()  # before the rows: an upload has its row before its bytes
        if not names:
            return names
        return names - {upload_id for (upload_id,) in await self._database.fetch(select(UploadRow.id))}


async def check_digest(path: Path, ref: BlobRef) -> None:
    """Raise CorruptBlob unless the file has the blob's digest."""
    sha256 = await asyncio.to_thread(sha256_file, path)
    if sha256 != ref.sha256:
        raise CorruptBlob(ref.sha256, sha256)
