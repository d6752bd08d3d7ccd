"""Files that are whole or not there: written under another name, made durable, and moved into place."""

import os
from collections.abc import Callable
from pathlib import Path


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let *write* fill a temporary file beside *path*, then put it in its place. Raises OSError and what write raises.

    The temporary name carries the process id: a child that outlives its parent must not spoil its successor's file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
