"""The norm of an update, by which one round is compared with others."""

import math
from pathlib import Path

import numpy as np

from shared.adapters.updates import UpdateFile


def update_norm(path: Path) -> float:
    """The L2 norm over all tensors of an update's file, in float64, one tensor in memory at a time: of what leaves, as
    its reader gets it.

    Raises AdapterError and OSError.
    """
    with UpdateFile(path) as file:
        return math.sqrt(sum(_squares(file.read(name)) for name in file.tensors))


def _squares(values: np.ndarray) -> float:
    exact = values.astype(np.float64).ravel()
    return float(np.einsum("i,i->", exact, exact))  # no BLAS: its threads spin for such short sums
