"""Whether the disk has room for what the training child writes."""

import errno
import os
from typing import IO

from agent.orders.job import LocalJob

_MARGIN_BYTES = 1 << 20
_CANNOT_RESERVE = (errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP, errno.ENOSYS)


def check_free_space(order: LocalJob) -> None:
    """Raise OSError if the disk has no room for the child's files, by taking as much.

    A full disk is not the task's fault. It is checked before hours of training, and again after a crash, because the
    child reports a full disk as a crash. What a disk says of its free space leaves quotas and limits out.
    """
    n_bytes = _MARGIN_BYTES + (order.adapter.stat().st_size if order.adapter is not None else 0)
    path = order.folder / "room.part"
    try:
        with path.open("wb") as file:
            _take(file, n_bytes)
    finally:
        path.unlink(missing_ok=True)


def _take(file: IO[bytes], n_bytes: int) -> None:
    """Have the disk set bytes aside for an empty file; where it cannot, as on macOS, write them."""
    try:
        os.posix_fallocate(file.fileno(), 0, n_bytes)
    except AttributeError:
        pass
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
    else:
        return
    for _ in range(0, n_bytes, _MARGIN_BYTES):
        file.write(bytes(_MARGIN_BYTES))
