"""Which engine this is: engines that run one after the other on one data folder bear one name.

A claim that says whose it is need not be waited for when that engine is dead. Whether it is, is known by a lock on the
data folder; taking the claim of one that lives would cost it work and nothing else, since every one of its transactions
asks for the claim.
"""

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME_FILE = "engine"


@contextmanager
def engine_name(data_dir: Path) -> Iterator[tuple[str, bool]]:
    """The name, 8 hexadecimal digits, and whether no other engine lives on this folder, for the length of the block."""
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
