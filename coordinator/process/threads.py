"""Threads. No caller leaves work behind in one: the work uses a connection or a file that the caller closes."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from shared.system.cores import n_cores

T = TypeVar("T")

TRANSFERS = ThreadPoolExecutor(min(16, n_cores() + 2), "transfer")
"""Threads that hash, write and read what agents send and fetch. Among other work, the database's commits would wait
behind many megabytes."""


_SMALL_BYTES = 64 << 10


async def in_thread(work: Callable[[], T], threads: Executor | None = None) -> T:
    """Do work in a thread, to its end: a caller that is cancelled waits for it. threads: None for the loop's own."""
    doing = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.gather(doing, return_exceptions=True)
        raise


async def in_thread_if_large(n_bytes: int, work: Callable[[], T]) -> T:
    """Work on so many bytes of memory: in a thread, unless that takes less time than the way there and back."""
    return work() if n_bytes <= _SMALL_BYTES else await in_thread(work)


def one_blas_thread() -> None:
    """Limit BLAS to one thread, as the first thing in a thread that aggregates.

    Small products gain nothing from more threads, and slow down tenfold while other work uses the cores. The sums would
    also depend on the number of cores.
    """
    _libraries().limit(limits=1, user_api="blas")


@functools.cache
def _libraries() -> ThreadpoolController:
    """The process's BLAS. To look for it costs as much as the sums of a small adapter."""
    return ThreadpoolController()
