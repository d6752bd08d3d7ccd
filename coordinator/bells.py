"""Wakes those who wait: agents for tasks, watchers for events, the engine for campaigns.

A bell rings within one process, at once. What happens in another process is found by its listeners' own slow polling,
so a missed ring costs time and never work.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable


class Bell:
    """Wakes the waiters of a key."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def ring(self, keys: Iterable[str]) -> None:
        """Wake everybody who waits for one of the keys."""
        for key in keys:
            for event in self._waiting.get(key, ()):
                event.set()

    @property
    def keys(self) -> list[str]:
        """The keys that somebody waits for."""
        return list(self._waiting)

    def listen(self, key: str) -> "Listener":
        """A listener; rings are heard from the moment that its block is entered."""
        return Listener(self._waiting, key)


class Listener:
    """Listens to one key while its block lasts."""

    def __init__(self, waiting: defaultdict[str, set[asyncio.Event]], key: str) -> None:
        self._waiting = waiting
        self._key = key
        self._event = asyncio.Event()

    def __enter__(self) -> "Listener":
        self._waiting[self._key].add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting[self._key].discard(self._event)
        if not self._waiting[self._key]:
            del self._waiting[self._key]

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a ring, or for so long; whether it rang. A ring since the last wait counts."""
        try:
            # not asyncio.wait_for: before Python 3.12 that loses a cancellation that comes just after a ring
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Bells:
    """All bells of a process. tasks: by agent id. events: by campaign id. engine: the key ``""``."""

    def __init__(self) -> None:
        self.tasks = Bell()
        self.events = Bell()
        self.engine = Bell()
        self.closing = False

    def close(self) -> None:
        """Send everybody who waits home, because the service stops."""
        self.closing = True
        for bell in (self.tasks, self.events):
            bell.ring(bell.keys)
