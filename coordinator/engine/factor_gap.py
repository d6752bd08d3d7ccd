"""LoRA's own trap: the mean of the factors A and B is not the mean of their products.

Clients end a round with B_k A_k, and averaging the factors apart gives mean(B) mean(A). What lies between,

    mean(BA) − mean(B) mean(A) = Σ p_k (B_k − mean(B)) (A_k − mean(A)),

is the covariance of the factors over the clients: none of them meant it (Sun et al. 2024, arXiv 2403.12313, section 3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.adapters import AdapterFile, Array
from shared.lora import factors

_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class FactorGap:
    """Frobenius norms over all modules. gap: α/r ‖mean(BA) − mean(B) mean(A)‖. moved: α/r ‖mean(BA) − BA‖, how far the
    clients moved the product on average."""

    gap: float
    moved: float

    @property
    def relative(self) -> float:
        """The gap as a share of the movement; 0 where nothing moved."""
        return self.gap / self.moved if self.moved > 0 else 0.0


def factor_gap(parent: AdapterFile, deltas: Sequence[tuple[float, AdapterFile]], scale: float) -> FactorGap:
    """Measure the gap of a round. deltas: p_k and the delta of each client. scale: α/r.

    A factor that is not in the deltas is frozen. The norms are not finite where products of large factors overflow.
    Memory is a few tensors and blocks of 8 MiB, whatever the number of clients; a module costs 4 K r in out
    floating-point operations.
    """
    squared_gap = squared_moved = 0.0
    for a_name, b_name in factors(parent.tensors):
        a, b = parent.read(a_name), parent.read(b_name)  # (r, in), (out, r)
        mean_a, mean_b = _mean(deltas, a_name, a.shape), _mean(deltas, b_name, b.shape)
        n_rows = max(1, _BLOCK_BYTES // (4 * a.shape[1]))
        for begin in range(0, b.shape[0], n_rows):
            rows = slice(begin, begin + n_rows)
            gap = np.zeros((b[rows].shape[0], a.shape[1]), dtype=np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                for p, delta in deltas:
                    apart_a = _read(delta, a_name, a.shape) - mean_a
                    apart_b = _read(delta, b_name, b.shape)[rows] - mean_b[rows]
                    gap += (np.float32(p) * apart_b) @ apart_a
                # mean(BA) − BA = (mean(B) mean(A) − BA) + the gap
                moved = b[rows] @ mean_a + mean_b[rows] @ (a + mean_a) + gap
                squared_gap += _squared(gap)
                squared_moved += _squared(moved)
    return FactorGap(scale * math.sqrt(squared_gap), scale * math.sqrt(squared_moved))


def _mean(deltas: Sequence[tuple[float, AdapterFile]], name: str, shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape, dtype=np.float64)
    for p, delta in deltas:
        total += np.float64(p) * _read(delta, name, shape)
    return total.astype(np.float32)


def _read(delta: AdapterFile, name: str, shape: tuple[int, ...]) -> Array:
    return delta.read(name) if name in delta.tensors else np.zeros(shape, dtype=np.float32)


def _squared(values: Array) -> float:
    flat = values.reshape(-1)
    return float(np.dot(flat, flat))
