"""Writes that survive a power cut: afterwards a file is the old one or the new one, never a part of it.

A renaming alone does not give that. A file system may write the new name before the bytes, which leaves an empty file.
So bytes are synced before the renaming, and the folder's names after it. ``overwrite``, and ``move_into_place`` with
*synced* False, promise less, and say what.
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

_CANNOT_LINK = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""Errors of file systems without hard links, such as FAT."""


@contextmanager
def atomic_write(path: Path, *, mode: int = 0o666, replace: bool = True) -> Iterator[IO[bytes]]:
    """A temporary file beside *path*, open for writing, that replaces *path* at the end of the block.

    If the block raises, *path* stays as it was and the temporary file is deleted. Its name carries the process id: a
    child that outlives its parent must not spoil its successor's file. A killed process leaves it behind.
    mode: permissions of the new file, before the umask; 0o600 for secrets. replace: False to raise FileExistsError if
    *path* exists by then. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with _create(temporary, mode) as file:
            yield file
        move_into_place(temporary, path, replace=replace)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write *text* as UTF-8 with ``atomic_write``. Raises OSError."""
    with atomic_write(path, mode=mode) as file:
        file.write(text.encode())


def overwrite(path: Path, data: bytes) -> None:
    """Overwrite the beginning of a file, synced. Raises OSError, FileNotFoundError among them.

    After a power cut the file may have any part of *data*; what lies within one sector of the disk is written whole or
    not at all.
    """
    with path.open("r+b", buffering=0) as file:
        file.write(data)
        (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(file.fileno())


def delete_leftovers(path: Path, *, spare_running: bool = False) -> None:
    """Delete the temporary files that killed processes left beside *path*. Raises OSError.

    spare_running: for callers that hold no lock: keep the files of process ids that are in use.
    """
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if not (spare_running and _is_in_use(temporary)):
            temporary.unlink(missing_ok=True)


def move_into_place(finished: Path, path: Path, *, replace: bool = True, synced: bool = True) -> None:
    """Rename a finished file to *path* on the same disk. An existing file is replaced, or with *replace* False raises
    FileExistsError. synced: False for a file of which each use checks the digest. Raises OSError."""
    if synced:
        _sync_file(finished)
    if replace:
        finished.replace(path)
    else:
        _link_into_place(finished, path)
    if synced:
        sync_folder(path.parent)


def _link_into_place(finished: Path, path: Path) -> None:
    """A link fails if *path* exists, where a renaming would replace it."""
    try:
        path.hardlink_to(finished)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        finished.replace(path)
    else:
        finished.unlink()


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


def _is_in_use(temporary: Path) -> bool:
    """Whether another process that runs on this machine made a temporary file; unknown on Windows, and then False."""
    pid = int(temporary.name.split(".")[-3])
    if not _IS_POSIX or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _create(path: Path, mode: int) -> IO[bytes]:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if _IS_POSIX else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
