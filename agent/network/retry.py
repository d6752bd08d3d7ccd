"""Retries with full jitter, so that agents that lost the coordinator together do not return together.

"Exponential Backoff And Jitter", AWS Architecture Blog, 2015: sleep = random(0, min(cap, base · 2ⁿ)).
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.errors import AgentError, CoordinatorUnreachable

log = logging.getLogger(__name__)

BASE_S = 0.5
CAP_S = 60.0

T = TypeVar("T")


class Backoff:
    """The pauses between the tries of one call: the bound doubles with each try until there is progress.

    So a transfer that breaks repeatedly but advances each time waits only briefly. One that does not advance waits as
    long as for an absent coordinator.
    """

    def __init__(self) -> None:
        self._tries = 0

    def reset(self) -> None:
        """Start again with short pauses, because there was progress."""
        self._tries = 0

    async def pause(self, error: AgentError) -> None:
        """Log an error and wait, at least as long as the error's ``retry_after_s``."""
        pause_s = random.uniform(0, min(CAP_S, BASE_S * 2.0**self._tries))  # noqa: S311
        if isinstance(error, CoordinatorUnreachable) and error.retry_after_s is not None:
            pause_s = max(pause_s, min(error.retry_after_s, CAP_S))
        self._tries = min(self._tries + 1, 16)
        log.warning("%s; trying again in %d s", error, math.ceil(pause_s) or 1)
        await asyncio.sleep(pause_s)


async def until_reached(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until the coordinator answers. Only CoordinatorUnreachable is retried; a refusal is final."""
    backoff = Backoff()
    while True:
        try:
            return await call()
        except CoordinatorUnreachable as error:
            await backoff.pause(error)
