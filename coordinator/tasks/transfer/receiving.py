"""Bodies on their way to the disk: a part is collected, then hashed and written in a thread while the next arrives."""

import asyncio
from collections.abc import AsyncIterator

from coordinator.process.threads import TRANSFERS
from coordinator.storage.chunks.chunk import Chunk
from coordinator.tasks.transfer.shares import Shares

_SHARES = Shares(4 << 20, least=64 << 10, most=1 << 20)
"""What bodies collect. Each has as much again on its way to the disk; if there are many, it waits for that first."""


async def receive(pieces: AsyncIterator[bytes], chunk: Chunk) -> None:
    """Write a body to a chunk, to its end. Raises StorageFull, UploadBusy, and what *pieces* raises."""
    part: list[bytes] = []
    n_bytes = 0
    writing: asyncio.Future[None] | None = None
    loop = asyncio.get_running_loop()
    with _SHARES.taken():
        try:
            async for piece in pieces:
                part.append(piece)
                n_bytes += len(piece)
                if n_bytes >= _SHARES.n_bytes:
                    await _end(writing)
                    writing = loop.run_in_executor(TRANSFERS, chunk.write, part)
                    part, n_bytes = [], 0
                    if _SHARES.are_scarce:
                        await _end(writing)
            await _end(writing)
        finally:  # nothing may be closed under a thread that still writes
            if writing is not None:
                await asyncio.wait([writing])
        await chunk.finish(part)


async def _end(writing: "asyncio.Future[None] | None") -> None:
    """Wait for a part to be written. A caller that is cancelled leaves it as it is."""
    if writing is not None:
        await asyncio.wait([writing])
        writing.result()
