"""LoRA's own trap: the mean of the factors A and B is not the mean of their products.

Clients end a round with B_k A_k, and averaging the factors apart gives mean(B) mean(A). What lies between,

    mean(BA) − mean(B) mean(A) = Σ p_k (B_k − mean(B)) (A_k − mean(A)),

is the covariance of the factors over the clients: none of them meant it (Sun et al. 2024, arXiv 2403.12313, section 3).

The sum is a product L R of two thin matrices, L (out, K r) with the blocks p_k (B_k − mean(B)) and R (K r, in) with the
blocks A_k − mean(A). Its norm needs no matrix of the layer's size:

    ‖L R‖² = tr(LᵀL · RRᵀ) = Σ (LᵀL) ∘ (RRᵀ),

two Gram matrices (K r, K r), accumulated in float64 over blocks of rows of L and of columns of R.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.adapters import AdapterFile, Array
from shared.lora import factors

Matrix = NDArray[np.float64]

_BLOCK_BYTES = 8 << 20
_CANCELLED = 1e-7
"""A share of ‖L‖² ‖R‖² below which the Gram form's rounding (1e-16 of it, times K r) would reach the sixth digit."""


@dataclass(frozen=True)
class FactorGap:
    """Frobenius norms over all modules of which both factors are trained. gap: α/r ‖mean(BA) − mean(B) mean(A)‖. moved:
    α/r ‖mean(BA) − BA‖, how far the clients moved the product on average."""

    gap: float
    moved: float

    @property
    def relative(self) -> float:
        """The gap as a share of the movement; 0 where nothing moved."""
        return self.gap / self.moved if self.moved > 0 else 0.0


class _Module:
    """One module's factors, A (r, in) and B (out, r); each client's p_k, delta of A and delta of B; the mean deltas."""

    def __init__(self, a: Array, b: Array, clients: Sequence[tuple[float, Array, Array]]) -> None:
        self.a, self.b, self.clients = a, b, clients
        self.mean_a = _mean([(p, delta_a) for p, delta_a, _ in clients])
        self.mean_b = _mean([(p, delta_b) for p, _, delta_b in clients])

    def left(self, rows: slice) -> Matrix:
        """Some rows of [B, dB, L], (rows, (K + 2) r)."""
        mean = self.mean_b[rows]
        blocks: list[NDArray[Any]] = [self.b[rows], mean, *(p * (b[rows] - mean) for p, _, b in self.clients)]
        return np.concatenate(blocks, axis=1, dtype=np.float64)

    def right(self, columns: slice) -> Matrix:
        """Some columns of [dA; A + dA; R], ((K + 2) r, columns)."""
        mean = self.mean_a[:, columns]
        blocks: list[NDArray[Any]] = [mean, self.a[:, columns] + mean]
        blocks += [a[:, columns] - mean for _, a, _ in self.clients]
        return np.concatenate(blocks, axis=0, dtype=np.float64)


def factor_gap(parent: AdapterFile, deltas: Sequence[tuple[float, AdapterFile]], scale: float) -> FactorGap:
    """Measure the gap of a round. Nothing is computed where a factor is frozen, that is, not in the deltas.

    Memory is a few tensors, Gram matrices and blocks of 8 MiB at most, whatever the number of clients. A module costs
    2 (out + in) (K r)² floating-point operations; with so many clients that its products themselves are cheaper, or the
    Gram matrices larger, 2 out · in · K r.

    Args:
        parent: the global adapter that the round started from.
        deltas: p_k and the delta of each client.
        scale: α/r.
    """
    squared_gap = squared_moved = 0.0
    for a_name, b_name in factors(parent.tensors):
        if not all(a_name in delta.tensors and b_name in delta.tensors for _, delta in deltas):
            continue
        clients = [(p, delta.read(a_name), delta.read(b_name)) for p, delta in deltas]
        gap, moved = _squared_norms(_Module(parent.read(a_name), parent.read(b_name), clients))
        squared_gap += gap
        squared_moved += moved
    return FactorGap(scale * math.sqrt(squared_gap), scale * math.sqrt(squared_moved))


def _squared_norms(module: _Module) -> tuple[float, float]:
    """‖mean(BA) − mean(B) mean(A)‖² and ‖mean(BA) − BA‖² of one module.

    With the mean deltas dA and dB, mean(BA) − BA = B dA + dB (A + dA) + L R: two blocks more than the gap.
    """
    n_in, n_out = module.a.shape[1], module.b.shape[0]
    rank = module.a.shape[0]
    n_thin = rank * (2 + len(module.clients))
    if 8 * n_thin**2 <= _BLOCK_BYTES and n_thin * (n_out + n_in) < 2 * n_out * n_in:
        left = _gram(n_thin, n_out, lambda rows: module.left(rows).T)
        right = _gram(n_thin, n_in, module.right)
        of_gap = slice(2 * rank, None)
        gap = _norm_of_product(left[of_gap, of_gap], right[of_gap, of_gap])
        moved = _norm_of_product(left, right)
        if gap is not None and moved is not None:
            return gap, moved
    return _densely(module)


def _norm_of_product(left: Matrix, right: Matrix) -> float | None:
    """‖L R‖² from LᵀL and RRᵀ; None where it is too small beside its terms to be told from their rounding."""
    squared = float(np.vdot(left, right))
    largest = float(np.trace(left)) * float(np.trace(right))
    return squared if largest == 0.0 or squared > _CANCELLED * largest else None


def _densely(module: _Module) -> tuple[float, float]:
    """The same norms from the products themselves, a block of their rows at a time."""
    squared_gap = squared_moved = 0.0
    for rows in _blocks(module.b.shape[0], module.a.shape[1]):
        gap = np.zeros((module.b[rows].shape[0], module.a.shape[1]))
        for p, a, b in module.clients:
            gap += (p * (b[rows] - module.mean_b[rows])) @ (a - module.mean_a)
        moved = module.b[rows] @ module.mean_a + module.mean_b[rows] @ (module.a + module.mean_a) + gap
        squared_gap += float(np.vdot(gap, gap))
        squared_moved += float(np.vdot(moved, moved))
    return squared_gap, squared_moved


def _gram(n_thin: int, n_long: int, read: Callable[[slice], Matrix]) -> Matrix:
    """M Mᵀ of a matrix M (thin, long), read in blocks of columns."""
    total = np.zeros((n_thin, n_thin))
    for part in _blocks(n_long, n_thin):
        block = read(part)
        total += block @ block.T
    return total


def _blocks(length: int, width: int) -> list[slice]:
    """Slices of *length* so short that a float64 matrix of that length and *width* has at most _BLOCK_BYTES."""
    step = max(1, _BLOCK_BYTES // (8 * width))
    return [slice(begin, begin + step) for begin in range(0, length, step)]


def _mean(parts: Sequence[tuple[float, Array]]) -> Matrix:
    """Σ p_k x_k, exactly x where all are x: around the first, since the p_k may miss 1 by a rounding."""
    first = parts[0][1].astype(np.float64)
    total = np.zeros_like(first)
    for p, values in parts[1:]:
        total += p * (values - first)
    return first + total
