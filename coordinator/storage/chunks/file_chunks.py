"""Chunks that are written into their upload's file as they arrive, and the digests of files that grow by them."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from coordinator.errors import UploadBusy
from coordinator.storage.chunks.chunk import Chunk
from coordinator.storage.scratch import lock
from shared import crash_points
from shared.system.durable import sync_folder

_MOST_DIGESTS = 4096


class RunningDigests:
    """The digests of uploads as far as this process received all their bytes, of the latest uploads.

    They are right because an upload's file has one writer at a time, in all processes, and each writer begins at the
    offset that the upload's row has: one at another offset than a digest's has been here in between.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[str, tuple[int, hashlib._Hash]] = OrderedDict()

    def of(self, name: str, n_bytes: int) -> str | None:
        """The digest of an upload's first *n_bytes*; None if it is not known."""
        end, digest = self._found.get(name, (-1, None))
        return digest.hexdigest() if digest is not None and end == n_bytes else None

    def begun(self, name: str, offset: int) -> "hashlib._Hash | None":
        """A copy of the state at an offset; None if it is not known."""
        end, digest = self._found.get(name, (-1, None))
        return digest.copy() if digest is not None and end == offset else None

    def note(self, name: str, end: int, digest: "hashlib._Hash") -> None:
        """Keep the state at an upload's new offset."""
        self._found[name] = (end, digest)
        self._found.move_to_end(name)
        if len(self._found) > _MOST_DIGESTS:
            self._found.popitem(last=False)

    def forget(self, name: str) -> None:
        """Drop what is known of an upload."""
        self._found.pop(name, None)


class FileChunk(Chunk):
    """A chunk in its place.

    Args:
        path: the upload's file.
        descriptor: of the file, opened and locked.
        offset: where in the file the chunk begins.
        digests: of the uploads of this process.
    """

    def __init__(self, path: Path, descriptor: int, offset: int, digests: RunningDigests) -> None:
        super().__init__(offset)
        self._path = path
        self._descriptor = descriptor
        self._digests = digests
        self._whole = digests.begun(path.name, offset) if offset else None

    def counts(self) -> None:
        whole = self._whole if self.offset else self._digest
        if whole is not None:
            self._digests.note(self._path.name, self.end, whole)

    def _write(self, pieces: Sequence[bytes]) -> None:
        if self._whole is not None:
            for piece in pieces:
                self._whole.update(piece)
        left, end = memoryview(b"".join(pieces)), self.end
        while left:
            written = os.pwrite(self._descriptor, left, end)
            left, end = left[written:], end + written
        if hasattr(os, "posix_fadvise"):  # has Linux begin to write them out, so that the sync at the end waits less
            os.posix_fadvise(self._descriptor, self.end, end - self.end, os.POSIX_FADV_DONTNEED)

    def _sync(self) -> None:
        crash_points.reach("chunk: written")
        os.fsync(self._descriptor)
        if self.offset == 0:
            sync_folder(self._path.parent)
        crash_points.reach("chunk: synced")


def open_locked(path: Path, offset: int) -> int:
    """Open a file of an upload for a chunk at an offset. Raises UploadBusy while another request writes to it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        lock(descriptor, wait=False)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise UploadBusy(offset) from error
        raise
    return descriptor
