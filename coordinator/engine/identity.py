"""Which engine this is: engines that run one after the other on one data folder bear one name.

A claim that says whose it is need not be waited for when that engine is dead. Whether it is, is known by a lock on the
data folder; taking the claim of one that lives would cost it work and nothing else, since every one of its transactions
asks for the claim.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from shared.durable import atomic_text

_NAME_FILE, _LOCK_FILE = "engine", "engine.lock"


@contextmanager
def engine_name(data_dir: Path) -> Iterator[tuple[str, bool]]:
    """The name, 8 hexadecimal digits, and whether no other engine lives on this folder, for the length of the block."""
    try:
        lock = FileLock(data_dir / _LOCK_FILE, thread_local=False).acquire(timeout=0)
    except Timeout:
        yield secrets.token_hex(4), False  # a name of its own: the other engine may restart beside it
        return
    with lock:
        yield _stored_name(data_dir / _NAME_FILE), True


def _stored_name(path: Path) -> str:
    """The name that engines on this data folder share; the first one writes it."""
    try:
        name = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        name = ""
    if not name:
        name = secrets.token_hex(4)
        atomic_text(path, name)
    return name
