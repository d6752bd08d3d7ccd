"""The engine's name. Engines that run one after the other on the same data folder have the same name.

A claim starts with its engine's name, so the claims of a dead engine can be released before they expire. A lock on the
data folder shows whether the engine is dead. Taking the claim of a live engine would cost it work but do no harm, since
each of its transactions checks the claim.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from shared.system.durable import atomic_text

_NAME_FILE, _LOCK_FILE = "engine", "engine.lock"


@contextmanager
def engine_name(data_dir: Path) -> Iterator[tuple[str, bool]]:
    """Yield the name, 8 hexadecimal digits, and whether this is the only engine on the folder while the block runs."""
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
