"""The norm of an update, by which one round is compared with others."""

import math
from pathlib import Path

import numpy as np

from shared.adapters.scratch import BLOCK_VALUES
from shared.adapters.updates import UpdateFile


def update_norm(path: Path) -> float:
    """The L2 norm over all tensors of an update's file, in float64, one block in memory at a time: of what leaves, as
    its reader gets it.

    Raises AdapterError and OSError.
    """
    with UpdateFile(path) as file:
        blocks = (
            file.read_block(name, begin, min(begin + BLOCK_VALUES, n_values))
            for name, spec in file.tensors.items()
            for n_values in (math.prod(spec.shape),)
            for begin in range(0, n_values, BLOCK_VALUES)
        )
        return math.sqrt(sum(map(_squares, blocks)))


def _squares(values: np.ndarray) -> float:
    exact = values.astype(np.float64).ravel()
    return float(np.einsum("i,i->", exact, exact))  # no BLAS: its threads spin for such short sums
