"""Locks by key, for work in this process that must not overlap; they are gone when nobody holds or wants them."""

import asyncio
from weakref import WeakValueDictionary


class KeyedLocks:
    """One lock for each key. It saves double work; what must be right across processes is fenced in the database."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: str) -> asyncio.Lock:
        """The key's lock; whoever uses it keeps it alive."""
        return self._locks.setdefault(key, asyncio.Lock())
