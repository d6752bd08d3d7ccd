"""Locks by key, for work in this process that must not overlap. Unused locks are garbage-collected."""

import asyncio
from weakref import WeakValueDictionary


class KeyedLocks:
    """One lock for each key. They only save double work: correctness across processes is fenced in the database."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: str) -> asyncio.Lock:
        """The key's lock. It exists as long as somebody references it."""
        return self._locks.setdefault(key, asyncio.Lock())
