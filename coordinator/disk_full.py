"""The many ways in which a disk or a database says that it is full, as one error."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from coordinator.errors import StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translate_disk_full() -> Iterator[None]:
    """Raise StorageFull where the block raises what means that."""
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
