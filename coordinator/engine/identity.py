"""The engine's name. Engines that run one after the other on the same data folder have the same name.

A claim starts with its engine's name, so the claims of a dead engine can be released before they expire. A lock on the
data folder shows whether the engine is dead. Taking the claim of a live engine would cost it work but do no harm, since
each of its transactions checks the claim.
"""

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME_FILE = "engine"


@contextmanager
def engine_name(data_dir: Path) -> Iterator[tuple[str, bool]]:
    """Yield the name, 8 hexadecimal digits, and whether this is the only engine on the folder while the block runs."""
    with (data_dir / _NAME_FILE).open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield secrets.token_hex(4), False  # a name of its own: the other one may be started anew beside it
            return
        file.seek(0)
        name = file.read().strip()
        if not name:
            name = secrets.token_hex(4)
            file.write(name)
            file.flush()
        yield name, True
