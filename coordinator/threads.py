"""Work in threads that its caller never leaves behind: it uses a connection or a file that the caller closes."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

TRANSFERS = ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 2), "transfer")
"""Threads that hash, write and read what agents send and fetch. Among other work, the database's commits would wait
behind many megabytes."""


async def in_thread(work: Callable[[], T], threads: Executor | None = None) -> T:
    """Do work in a thread, to its end: a caller that is cancelled waits for it. threads: None for the loop's own."""
    doing = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.gather(doing, return_exceptions=True)
        raise
