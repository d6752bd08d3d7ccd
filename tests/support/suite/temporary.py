"""A pytest plugin that keeps temporary folders in memory where there is room: most waiting of a test is for a disk.

Coordinators and agents sync each transaction, and PostgreSQL syncs whole databases when it starts. What tests check
does not depend on it: a process that is killed leaves the same files in either place.
"""

import os
import shutil
from pathlib import Path

_IN_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 8 << 30
"""Free space from which on it is used; the largest run needs a quarter of that."""
_ROOT = "PYTEST_DEBUG_TEMPROOT"


def pytest_configure() -> None:
    if _is_suited(_IN_MEMORY):
        os.environ.setdefault(_ROOT, str(_IN_MEMORY))


def _is_suited(folder: Path) -> bool:
    """Whether temporary folders may be there: it has room, and programs of tests may run from it."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return False
    return shutil.disk_usage(folder).free > _ROOM_BYTES and not os.statvfs(folder).f_flag & os.ST_NOEXEC


def root() -> str | None:
    """The folder that temporary folders are in; None for the system's own."""
    return os.environ.get(_ROOT)
