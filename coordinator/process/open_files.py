"""How the limit of open files is shared: sockets, chunks that are being received, and everything else."""

import contextlib
import logging
import resource
from functools import cache

log = logging.getLogger(__name__)

_OTHER_FILES = 200
"""Files that stay free of both: the database, adapters that are read, updates that are mapped."""
_LEAST_CONNECTIONS = 16
"""Connections that are kept even with so few files: with none, nobody would be answered."""
_MOST_CHUNKS = 2048
"""Each is a file, beside the socket that it comes by."""


def allow_many() -> None:
    """Raise the limit to the system's maximum: a round maps every update, and agents wait on sockets."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS reports a maximum that it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """The limit of open files; ``resource.RLIM_INFINITY`` if there is none."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_chunks(files: int) -> int:
    """The chunks that may be received at the same time, under a limit of open files."""
    return _MOST_CHUNKS if files == resource.RLIM_INFINITY else min(_MOST_CHUNKS, files // 4)


@cache  # it warns once
def most_connections(wanted: int, files: int) -> int:
    """The connections that a limit of open files leaves room for, at most as many as wanted; never none."""
    room = files - _OTHER_FILES - most_chunks(files)
    if files == resource.RLIM_INFINITY or room >= wanted:
        return wanted
    most = max(_LEAST_CONNECTIONS, room)
    log.warning(
        "at most %s open files are allowed, so at most %s connections are kept instead of limits.connections, %s; "
        "raise the limit (ulimit -n, LimitNOFILE)",
        *(f"{number:,}" for number in (files, most, wanted)),
    )
    return most
