"""Translates the errors of a full disk or database into StorageFull."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from coordinator.errors import StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translate_disk_full() -> Iterator[None]:
    """Raise StorageFull if the block raises an error of a full disk or database."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull from error
        raise
    except DBAPIError as error:
        text = str(error.orig).lower()
        if "disk is full" in text or "no space left" in text or "diskfull" in type(error.orig).__name__.lower():
            raise StorageFull from error
        raise
