"""Places of a coordinator's data, and a work folder for restores."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from coordinator.backup.errors import Busy
from coordinator.settings import Settings
from shared.system.private_files import private_folder

_LOCK_FILE = "lock"


def sqlite_file(settings: Settings) -> Path | None:
    """The file of the database if it is SQLite, otherwise None."""
    return settings.database.file


def place_of(settings: Settings) -> str:
    """The database's place for messages, without the password."""
    return settings.database.shown


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A folder in the data folder for this process alone, empty but for its lock, and deleted with the block.

    What a killed process left in it is deleted first.

    Raises Busy where another process has it, and OSError.
    """
    parent_is_new = not folder.parent.exists()
    private_folder(folder.parent)
    private_folder(folder)
    lock_file = folder / _LOCK_FILE
    try:
        lock = FileLock(lock_file, thread_local=False).acquire(timeout=0)
    except Timeout as error:
        raise Busy(folder) from error
    with lock:
        _clear(folder, lock_file)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # the lock's file too: nobody waits for it
            if parent_is_new:
                with suppress(OSError):  # not empty by now
                    folder.parent.rmdir()


def _clear(folder: Path, keep: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != keep:
            entry.unlink()
