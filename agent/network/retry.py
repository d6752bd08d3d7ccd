"""Trying again: full jitter, so that agents that were cut off together do not come back together.

"Exponential Backoff And Jitter", AWS Architecture Blog, 2015: sleep = random(0, min(cap, base · 2ⁿ)).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.errors import AgentError, CoordinatorUnreachable

log = logging.getLogger(__name__)

BASE_S = 0.5
CAP_S = 60.0

T = TypeVar("T")


class Backoff:
    """The pauses between the tries of one thing: each may last twice as long as the one before, until there is
    progress. A transfer that is cut again and again, but comes further each time, so waits for moments only; one that
    does not come further waits as for a coordinator that is away."""

    def __init__(self) -> None:
        self._tries = 0

    def reset(self) -> None:
        """There was progress."""
        self._tries = 0

    async def pause(self, error: AgentError) -> None:
        """Wait because of an error, at least as long as that asks for."""
        pause_s = random.uniform(0, min(CAP_S, BASE_S * 2.0**self._tries))  # noqa: S311
        if isinstance(error, CoordinatorUnreachable) and error.retry_after_s is not None:
            pause_s = max(pause_s, min(error.retry_after_s, CAP_S))
        self._tries = min(self._tries + 1, 16)
        log.warning("%s; trying again in %.0f s", error, pause_s)
        await asyncio.sleep(pause_s)


async def until_reached(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the coordinator answers. Only CoordinatorUnreachable is tried again; what it refuses is final."""
    backoff = Backoff()
    while True:
        try:
            return await call()
        except CoordinatorUnreachable as error:
            await backoff.pause(error)
