"""Staging for stores that take a chunk as rows or objects: it waits in a scratch file until its digest was checked."""

import asyncio
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO

from coordinator.database.sessions import Database
from coordinator.process.threads import TRANSFERS, in_thread
from coordinator.storage.chunks.chunk import Chunk
from coordinator.storage.scratch import scratch_file
from coordinator.storage.stores import CHUNK_BYTES, Staging

_AT_ONCE = 2
"""Chunks that are stored at the same time, each with a part of it in memory. Others wait on the disk."""


class SpooledStaging(Staging):
    """Staging that stores a chunk in parts of CHUNK_BYTES, the last one smaller."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        super().__init__(database, data_dir)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @abstractmethod
    async def write(self, upload_id: str, offset: int, part: bytes) -> None:
        """Store a part of a chunk durably. The same offset may be written again. Raises StorageFull."""

    @asynccontextmanager
    async def chunk(self, upload_id: str, offset: int, scratch: Path) -> AsyncIterator[Chunk]:
        with scratch_file(scratch) as file:
            yield _SpooledChunk(file, offset, self._turns, partial(self.write, upload_id))


class _SpooledChunk(Chunk):
    """A chunk in a scratch file.

    Args:
        file: empty.
        offset: where in the upload the chunk begins.
        turns: how many chunks may be stored at the same time.
        store: stores a part, by its offset in the upload.
    """

    def __init__(
        self,
        file: IO[bytes],
        offset: int,
        turns: asyncio.Semaphore,
        store: Callable[[int, bytes], Awaitable[None]],
    ) -> None:
        super().__init__(offset)
        self._file = file
        self._turns = turns
        self._store = store

    async def keep(self) -> None:
        async with self._turns:
            for start in range(0, self.n_bytes, CHUNK_BYTES):
                await self._store(self.offset + start, await in_thread(partial(self._read, start), TRANSFERS))

    def _read(self, start: int) -> bytes:
        return os.pread(self._file.fileno(), CHUNK_BYTES, start)

    def _write(self, pieces: Sequence[bytes]) -> None:
        self._file.writelines(pieces)

    def _sync(self) -> None:
        self._file.flush()
