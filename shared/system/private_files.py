"""Files for their owner alone, whatever the umask: folders have the mode 0700, files 0600.

Windows has no such modes; there a folder inherits its rights from the user's profile, and nothing is done.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_IS_POSIX = os.name == "posix"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_files_private() -> None:
    """Make all files and folders that this process creates from now on private. For the start of a process only."""
    os.umask(0o077)


def private_folder(folder: Path) -> None:
    """Create *folder*, and missing parents, or withdraw the rights of others to an existing one. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _withdraw(folder)


def tighten(path: Path) -> None:
    """Withdraw the rights of others to *path* and all below it, without following links. Raises OSError.

    Does nothing if *path* does not exist.
    """
    with suppress(FileNotFoundError):  # another process may delete its files meanwhile
        _withdraw(path)
        if path.is_dir() and not path.is_symlink():
            for entry in path.iterdir():
                tighten(entry)


def create_private_file(path: Path) -> None:
    """Create an empty file. Raises FileExistsError, without opening it, if *path* exists; otherwise OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def private_opener(name: str, flags: int) -> int:
    """Open a file for ``open``, private if it is new."""
    return os.open(name, flags, 0o600)


def _withdraw(path: Path) -> None:
    """Raise PermissionError, with what to do, where the rights cannot be changed."""
    if not _IS_POSIX or path.is_symlink() or not path.stat().st_mode & _OTHERS:
        return
    with suppress(PermissionError):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)
    found = path.stat()
    if found.st_mode & _OTHERS:  # some file systems ignore the change without an error
        whose = "it belongs to another user" if found.st_uid != os.geteuid() else "its file system keeps no modes"
        reason = f"other users can read it, and that cannot be changed, because {whose}; give a folder of your own"
        raise PermissionError(errno.EPERM, reason, str(path))
