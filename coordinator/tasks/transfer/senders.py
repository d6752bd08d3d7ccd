"""Who sends a chunk of an upload: one request at a time, and the latest takes the place of one that still sends.

That one is most often what is left of a broken connection, whose end this process has not noticed yet.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from coordinator.errors import TooManyRequests, UploadBusy
from coordinator.process import open_files
from coordinator.tasks.keyed_locks import KeyedLocks


class Senders:
    """The requests of this process that append to uploads."""

    def __init__(self) -> None:
        self._locks = KeyedLocks()
        self._receiving: dict[str, asyncio.Timeout] = {}
        self._n_open = 0

    def turn(self, upload_id: str) -> AbstractAsyncContextManager[object]:
        """Be the only one to append to an upload while the block runs. Ends another's ``receiving``."""
        if (earlier := self._receiving.pop(upload_id, None)) is not None:
            earlier.reschedule(asyncio.get_running_loop().time())
        return self._locks.of(upload_id)

    @contextmanager
    def with_file(self) -> Iterator[None]:
        """Have a chunk's file open while the block runs. Raises TooManyRequests if too many are."""
        most = open_files.most_chunks(open_files.limit())
        if self._n_open >= most:
            raise TooManyRequests(f"{most:,} chunks are being received", 1)
        self._n_open += 1
        try:
            yield
        finally:
            self._n_open -= 1

    @asynccontextmanager
    async def receiving(self, upload_id: str, offset: int) -> AsyncIterator[None]:
        """Receive a chunk while the block runs, within a turn. Raises UploadBusy as soon as another wants the turn.

        offset: where the chunk begins.
        """
        try:
            async with asyncio.timeout(None) as limit:
                self._receiving[upload_id] = limit
                try:
                    yield
                finally:
                    self._receiving.pop(upload_id, None)
        except TimeoutError as error:
            if limit.expired():
                raise UploadBusy(offset) from error
            raise
