"""Blobs as files of this process: put together and checked once, then read by many agents and by the aggregation.

A copy has no name: no process finds it, and it goes with this one. Whether a caller may read a blob, and whether it is
still stored, is asked at each download before the copy is.
"""

import asyncio
import os
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from coordinator.errors import StorageFull
from coordinator.storage.stores import BlobStore
from shared.digest import sha256_file
from shared.wire.base import BlobRef

_ALL_TOGETHER = 2 << 30
"""Bytes of all copies. A larger blob gets none."""
_LIVES_S = 60.0
"""Seconds after a copy was made, or its last download began, at which it goes."""


class LocalCopy:
    """The bytes of a blob. The file is closed with the last reference to this object.

    Args:
        descriptor: of the file, which is closed here.
        n_bytes: its size.
    """

    def __init__(self, descriptor: int, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    @property
    def path(self) -> Path:
        """A path that opens the file anew while this object lives, on Linux: other systems have none for a file without
        a name."""
        return Path(f"/proc/self/fd/{self._descriptor}")

    def has_digest(self, sha256: str) -> bool:
        """Whether ``path`` can be opened and the bytes still are what they were."""
        try:
            return sha256_file(self.path) == sha256
        except OSError:
            return False

    def read(self, start: int, n_bytes: int) -> bytes:
        """Return at most *n_bytes* from *start* on. Reads in the caller's thread."""
        return os.pread(self._descriptor, n_bytes, start)


class LocalCopies:
    """The copies of one process. scratch: a folder for their bytes."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._copies: OrderedDict[str, LocalCopy] = OrderedDict()
        self._making: dict[str, asyncio.Task[LocalCopy]] = {}
        self._ends: dict[str, asyncio.TimerHandle] = {}

    async def find(self, store: BlobStore, ref: BlobRef) -> LocalCopy | None:
        """Return the copy of a stored blob, and make it if there is none. None if the blob is too large or the disk is
        too full.

        Raises NotFound and CorruptBlob.
        """
        if ref.n_bytes > _ALL_TOGETHER:
            return None
        copy = self._copies.get(ref.sha256)
        if copy is None:
            try:
                copy = await asyncio.shield(self._made(store, ref))
            except StorageFull:
                return None
        self._keep(ref.sha256, copy)
        return copy

    @asynccontextmanager
    async def as_file(self, store: BlobStore, ref: BlobRef) -> AsyncIterator[Path]:
        """A stored blob as a local file while the block runs, checked against its digest: the copy, if there is one.

        Raises as ``BlobStore.as_file``.
        """
        copy = self._copies.get(ref.sha256)
        if copy is not None:
            if await asyncio.to_thread(copy.has_digest, ref.sha256):
                yield copy.path
                return
            self._drop(ref.sha256)
        async with store.as_file(ref, self._scratch) as path:
            yield path

    def adopt(self, path: Path, ref: BlobRef) -> None:
        """Use a file, which was just hashed and stored, as the blob's copy. The caller may delete it, and no more."""
        if ref.n_bytes <= _ALL_TOGETHER:
            self._keep(ref.sha256, LocalCopy(os.open(path, os.O_RDONLY), ref.n_bytes))

    def _made(self, store: BlobStore, ref: BlobRef) -> "asyncio.Task[LocalCopy]":
        """A copy that is being made, whoever asked for it first, and whether or not that one still waits."""
        making = self._making.get(ref.sha256)
        if making is None:
            making = self._making[ref.sha256] = asyncio.create_task(self._make(store, ref))
            making.add_done_callback(lambda done: self._end(ref.sha256, done))
        return making

    def _end(self, sha256: str, made: "asyncio.Task[LocalCopy]") -> None:
        del self._making[sha256]
        if not made.cancelled():
            made.exception()  # nobody may be waiting any more

    async def _make(self, store: BlobStore, ref: BlobRef) -> LocalCopy:
        async with store.as_file(ref, self._scratch) as path:
            return LocalCopy(os.open(path, os.O_RDONLY), ref.n_bytes)

    def _keep(self, sha256: str, copy: LocalCopy) -> None:
        """Note that a copy is used. Those that were not used for longest go if all together are too large."""
        self._copies[sha256] = copy
        self._copies.move_to_end(sha256)
        if (end := self._ends.pop(sha256, None)) is not None:
            end.cancel()
        self._ends[sha256] = asyncio.get_running_loop().call_later(_LIVES_S, self._drop, sha256)
        while sum(each.n_bytes for each in self._copies.values()) > _ALL_TOGETHER:
            self._drop(next(iter(self._copies)))

    def _drop(self, sha256: str) -> None:
        self._copies.pop(sha256, None)
        if (end := self._ends.pop(sha256, None)) is not None:
            end.cancel()
