"""Files of a moment, on the data folder's disk. Each is locked by the process that works on it, so that what a killed
process left can be told from what is in use, in another process too, and thrown away.

The lock is flock on the file or folder itself, not the filelock package: that one locks a second file beside it, which
a killed process would leave too and nobody could delete safely. A coordinator runs on POSIX only.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_YOUNG_S = 60.0
"""Age in seconds under which entries are left alone: a new one may not be locked yet."""


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """An empty folder that exists while the block runs."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            lock(descriptor, wait=True)
            yield Path(name)
        finally:
            os.close(descriptor)


@contextmanager
def scratch_file(parent: Path) -> Iterator[IO[bytes]]:
    """An empty file that exists while the block runs."""
    with tempfile.NamedTemporaryFile(dir=parent) as file:
        lock(file.fileno(), wait=True)
        yield file


def clear(parent: Path) -> int:
    """Delete leftovers of killed processes. Returns how many files and folders were deleted."""
    n_gone = 0
    for path in parent.iterdir():
        try:
            if time.time() - path.stat().st_mtime < _YOUNG_S or not _is_left(path):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:  # its owner was faster
            continue
        n_gone += 1
    return n_gone


def _is_left(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lock(descriptor, wait=False)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def lock(descriptor: int, *, wait: bool) -> None:
    """Lock a file or folder until its descriptor is closed.

    wait: until others have released it; without it raises BlockingIOError.
    """
    import fcntl  # here: Windows lacks it, and modules that import this one should still load there

    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
