"""What rank 0 tells the other ranks."""

from pathlib import Path

from agent.orders.job import LocalJob
from agent.orders.protocol import Message

HUB_KERNELS = "hub-kernels"
"""The argument of a rank whose libraries may fetch kernels from the hub."""


class RankOrder(Message):
    """Take part in a training.

    Args:
        work: as rank 0 does it, with the folder of the base model that it has found.
        size: how many ranks train.
        store: the file by which they find each other.
        device: the type of device on which they train, ``cpu`` or ``cuda``.
        threads: CPU threads of each.
    """

    work: LocalJob
    size: int
    store: Path
    device: str
    threads: int
