"""Places of a coordinator's data, and a work folder for restores."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import make_url

from coordinator.backup.errors import Busy
from coordinator.settings import Settings

UPDATES = "updates"
"""The folder of update files in a data folder."""


def sqlite_file(settings: Settings) -> Path | None:
    """The file of the database if it is SQLite, otherwise None."""
    url = make_url(settings.sqlalchemy_url)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def place_of(settings: Settings) -> str:
    """The database's place for messages, without the password."""
    file = sqlite_file(settings)
    return str(file) if file is not None else make_url(settings.sqlalchemy_url).render_as_string(hide_password=True)


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """An empty folder for this process alone, gone with the block. What a killed process left in it goes first.

    Raises Busy where another process has it, and OSError.
    """
    parent_is_new = not folder.parent.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(folder) from error
        _clear(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if parent_is_new:
                with suppress(OSError):  # not empty by now
                    folder.parent.rmdir()
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
