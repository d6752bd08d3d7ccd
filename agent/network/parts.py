"""Files that grow by what is downloaded."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from io import FileIO
from pathlib import Path

from agent.errors import CoordinatorUnreachable
from shared.digest import sha256_file

_LEAST_PROGRESS_BYTES = 1024
"""Bytes that must arrive within the time-out: a byte now and then is a connection that stands still."""
_REPORT_BYTES = 1 << 20


class PartialFile:
    """A file that grows, over as many connections as it takes. It is hashed on the way, so as not to be read again.

    path: the file, which exists; what it has already is hashed at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        self._hashed = 0

    @property
    def n_bytes(self) -> int:
        """Its size now."""
        return self.path.stat().st_size

    async def sha256(self) -> str:
        """Its digest. Raises OSError."""
        if self._hashed == self.n_bytes:
            return self._digest.hexdigest()
        return await asyncio.to_thread(sha256_file, self.path)

    async def append(
        self,
        pieces: AsyncIterator[bytes],
        n_bytes: int,
        timeout_s: float,
        on_bytes: Callable[[int], None],
    ) -> None:
        """Append what comes over one connection, and no byte beyond *n_bytes* in all.

        Raises CoordinatorUnreachable if it ends early, TimeoutError if it stands still, and OSError.

        Args:
            pieces: the bytes that follow those of the file.
            n_bytes: bytes that the whole file has.
            timeout_s: seconds without progress after which the connection stands still.
            on_bytes: called with the size of the file, once for each megabyte and at the end.
        """
        async with asyncio.timeout(timeout_s) as pace:
            with self.path.open("ab", buffering=0) as file:
                in_time = reported = size = file.tell()
                async for piece in pieces:
                    if size == n_bytes:
                        return
                    # at once and unbuffered, so that the file is a prefix of the blob at any time, even on a full disk
                    size += self._add(file, size, piece[: n_bytes - size])
                    if size - in_time >= _LEAST_PROGRESS_BYTES:
                        in_time = size
                        pace.reschedule(asyncio.get_running_loop().time() + timeout_s)
                    if size - reported >= _REPORT_BYTES or size == n_bytes:
                        reported = size
                        on_bytes(size)
        if self.n_bytes < n_bytes:
            message = "the coordinator ended a download early"
            raise CoordinatorUnreachable(message)

    def _add(self, file: FileIO, size: int, piece: bytes) -> int:
        """Write a piece behind the *size* bytes that are there. Returns its length."""
        left = memoryview(piece)
        while left:
            left = left[file.write(left) :]
        if self._hashed == size:
            self._digest.update(piece)
            self._hashed += len(piece)
        return len(piece)
