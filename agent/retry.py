"""Trying again: full jitter, so that agents that were cut off together do not come back together.

"Exponential Backoff And Jitter", AWS Architecture Blog, 2015: sleep = random(0, min(cap, base · 2ⁿ)).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.errors import CoordinatorUnreachable

log = logging.getLogger(__name__)

BASE_S = 0.5
CAP_S = 60.0

T = TypeVar("T")


async def until_reached(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the coordinator answers. Only CoordinatorUnreachable is tried again; what it refuses is final."""
    attempt = 0
    while True:
        try:
            return await call()
        except CoordinatorUnreachable as error:
            pause_s = random.uniform(0, min(CAP_S, BASE_S * 2.0**attempt))  # noqa: S311
            if error.retry_after_s is not None:
                pause_s = max(pause_s, min(error.retry_after_s, CAP_S))
            attempt = min(attempt + 1, 16)
            log.warning("%s; trying again in %.0f s", error, pause_s)
            await asyncio.sleep(pause_s)
