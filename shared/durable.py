"""Writes that survive a power cut: afterwards a file is the old one or the new one, never a part of it.

A renaming alone does not give that. A file system may write the new name before the bytes, which leaves an empty file.
So bytes are synced before the renaming, and the folder's names after it.
"""

import errno
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_IS_POSIX = os.name == "posix"
"""Windows opens no folder to sync it, and syncs a file only through a handle that may write."""
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)
"""Errors of file systems that do not sync folders (some network ones), and of folders that may not be read."""


@contextmanager
def atomic_write(path: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A temporary file beside *path*, open for writing, that replaces *path* at the end of the block.

    If the block raises, *path* stays as it was and the temporary file is deleted. Its name carries the process id: a
    child that outlives its parent must not spoil its successor's file. A killed process leaves it behind.
    mode: permissions of the new file, before the umask; 0o600 for secrets. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with _create(temporary, mode) as file:
            yield file
        move_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write *text* as UTF-8 with ``atomic_write``. Raises OSError."""
    with atomic_write(path, mode=mode) as file:
        file.write(text.encode())


def delete_leftovers(path: Path) -> None:
    """Delete the temporary files that killed processes left beside *path*. Raises OSError."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        temporary.unlink(missing_ok=True)


def move_into_place(finished: Path, path: Path) -> None:
    """Rename a finished file to *path* on the same disk, synced; an existing file is replaced. Raises OSError."""
    _sync_file(finished)
    finished.replace(path)
    sync_folder(path.parent)


def sync_tree(folder: Path) -> None:
    """Sync all files and names in a folder and below it. Raises OSError."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            _sync_file(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder, as fsync does the bytes of a file. Raises OSError.

    Does nothing on Windows and on file systems that cannot sync a folder.
    """
    if not _IS_POSIX:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _create(path: Path, mode: int) -> IO[bytes]:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if _IS_POSIX else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
