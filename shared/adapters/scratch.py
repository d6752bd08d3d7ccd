"""The two float64 arrays in which a thread computes on float32 values, one block after the other.

They are the same for every block: fresh memory costs page faults, and pushes the inputs out of the cache.
"""

import threading
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Float64: TypeAlias = NDArray[np.float64]

BLOCK_VALUES = 1 << 18
"""Values of a block. A block of a tensor has 1 MiB, the two arrays 4 MiB. A block of 1 << 16 would fit a second-level
cache, and one thread is as fast with it; but with calls so short, several threads wait for the interpreter's lock half
of the time."""


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.first: Float64 = np.empty(BLOCK_VALUES)
        self.second: Float64 = np.empty(BLOCK_VALUES)


_scratch = _Scratch()


def scratch(n_values: int) -> tuple[Float64, Float64]:
    """Two arrays of n ≤ BLOCK_VALUES values, which hold until this thread's next call."""
    return _scratch.first[:n_values], _scratch.second[:n_values]
