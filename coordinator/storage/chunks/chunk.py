"""A chunk of an upload on its way to the disk: hashed and written in one pass, a few pieces at a time, in a thread."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

from coordinator.database.disk_full import translate_disk_full
from coordinator.process.threads import TRANSFERS, in_thread


class Chunk(ABC):
    """Receives one chunk, in order: ``write``, ``finish``, then ``keep`` if its digest is right, and ``counts`` once
    the upload's row says that it has the chunk. Nothing counts before.

    offset: where in the file it begins.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.n_bytes = 0
        self._digest = hashlib.sha256()

    @property
    def end(self) -> int:
        """Where in the file the next piece begins."""
        return self.offset + self.n_bytes

    @property
    def sha256(self) -> bytes:
        """The digest of what was received."""
        return self._digest.digest()

    def write(self, pieces: Sequence[bytes]) -> None:
        """Hash and write the next pieces, in the caller's thread. Raises StorageFull."""
        for piece in pieces:
            self._digest.update(piece)
        with translate_disk_full():
            self._write(pieces)
        self.n_bytes += sum(map(len, pieces))

    async def finish(self, last: Sequence[bytes]) -> None:
        """Receive the last pieces. Raises StorageFull."""

        def write_and_sync() -> None:
            self.write(last)
            with translate_disk_full():
                self._sync()

        await in_thread(write_and_sync, TRANSFERS)

    async def keep(self) -> None:  # noqa: B027 -- what is written in its place is kept
        """Have the whole chunk durable when this returns. Raises StorageFull."""

    def counts(self) -> None:  # noqa: B027 -- as above
        """Note that the upload has this chunk."""

    @abstractmethod
    def _write(self, pieces: Sequence[bytes]) -> None:
        """Write pieces at ``end``."""

    @abstractmethod
    def _sync(self) -> None:
        """Have all that was written in the file, for good if it stays there."""
