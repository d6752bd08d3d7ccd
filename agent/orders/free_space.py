"""Whether the disk has room for what the training child writes."""

from agent.orders.job import LocalJob

_MARGIN_BYTES = 1 << 20


def check_free_space(order: LocalJob) -> None:
    """Raise OSError if the disk has no room for the child's files, by writing as many bytes.

    A full disk is not the task's fault. It is checked before hours of training, and again after a crash, because the
    child reports a full disk as a crash.
    """
    n_bytes = _MARGIN_BYTES + (order.adapter.stat().st_size if order.adapter is not None else 0)
    path = order.folder / "room.part"
    try:
        with path.open("wb") as file:
            for _ in range(0, n_bytes, _MARGIN_BYTES):
                file.write(bytes(_MARGIN_BYTES))
    finally:
        path.unlink(missing_ok=True)
