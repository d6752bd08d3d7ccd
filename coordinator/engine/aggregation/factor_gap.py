"""The factor gap of LoRA: the product of the averaged factors is not the average of the products.

Clients end a round with B_k A_k, and averaging the factors separately gives mean(B) mean(A). The difference,

    mean(BA) − mean(B) mean(A) = Σ p_k (B_k − mean(B)) (A_k − mean(A)),

is the covariance of the factors over the clients, an error that no client intended (Sun et al. 2024, arXiv 2403.12313,
section 3).

Its norm needs no matrix of the layer's size. With u_k = B_k − B_1 and v_k = A_k − A_1, the sum consists of products of
thin matrices, Σ C_jk u_j v_k with C = diag(p) − p pᵀ. For any such sum

    ‖Σ C_jk L_j R_k‖² = Σ (LᵀL) ∘ (C (R Rᵀ) Cᵀ)

where L = [L_1, L_2, …] (out, n r) and R = [R_1; R_2; …] (n r, in): two Gram matrices, in float64.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.engine.aggregation.threads import in_threads
from shared.adapters.files import AdapterFile, Array
from shared.adapters.lora import factors
from shared.adapters.updates import TensorView, UpdateFile

Matrix = NDArray[np.float64]
Factor = Array | TensorView
"""A client's delta of a factor, which may be read where it is indexed."""

_BLOCK_BYTES = 8 << 20
_CANCELLED = 1e-7
"""Least ratio of a sum to the sum of its terms' magnitudes. Below it, rounding (1e-16 of the latter) would reach the
sixth digit."""


@dataclass(frozen=True)
class FactorGap:
    """Frobenius norms over all modules with both factors trained.

    gap: α/r ‖mean(BA) − mean(B) mean(A)‖. moved: α/r ‖mean(BA) − BA‖, how far the clients moved the product on average.
    """

    gap: float
    moved: float

    @property
    def relative(self) -> float:
        """The gap as a share of the movement; 0 if nothing moved."""
        return self.gap / self.moved if self.moved > 0 else 0.0


@dataclass(frozen=True)
class _Module:
    """One module: its factors A (r, in) and B (out, r), and for each client p_k, delta of A, delta of B."""

    a: Array
    b: Array
    clients: Sequence[tuple[float, Factor, Factor]]

    def left(self, rows: slice) -> Matrix:
        """Some rows of [B, dB_1, u_2, …, u_K], transposed: ((K + 1) r, rows)."""
        first = self.clients[0][2][rows]
        later = (np.subtract(delta[rows], first, dtype=np.float64) for _, _, delta in self.clients[1:])
        return np.concatenate([self.b[rows], first, *later], axis=1, dtype=np.float64).T

    def right(self, columns: slice) -> Matrix:
        """Some columns of [A; dA_1; v_2; …; v_K], ((K + 1) r, columns)."""
        first = self.clients[0][1][:, columns]
        later = (np.subtract(delta[:, columns], first, dtype=np.float64) for _, delta, _ in self.clients[1:])
        return np.concatenate([self.a[:, columns], first, *later], axis=0, dtype=np.float64)

    def of_gap(self) -> Matrix:
        """C of the gap, (K + 1, K + 1)."""
        c, p = np.zeros((len(self.clients) + 1,) * 2), self._later_weights
        c[2:, 2:] = np.diag(p) - np.outer(p, p)
        return c

    def of_movement(self) -> Matrix:
        """C of mean(BA) − BA = B mean(dA) + mean(dB) A + mean(dB dA), (K + 1, K + 1)."""
        c, p = np.zeros((len(self.clients) + 1,) * 2), self._later_weights
        c[0, 1] = c[1, 0] = c[1, 1] = 1
        c[:2, 2:] = p
        c[2:, :2] = p[:, np.newaxis]
        c[2:, 2:] = np.diag(p)
        return c

    @property
    def _later_weights(self) -> Matrix:
        return np.array([p for p, _, _ in self.clients[1:]])


def factor_gap(
    parent: AdapterFile,
    deltas: Sequence[tuple[float, UpdateFile]],
    scale: float,
    *,
    n_threads: int = 1,
) -> FactorGap:
    """Measure the factor gap of a round. Modules with a frozen factor, which deltas lack, have none and are skipped.

    Memory is, in each thread, a few tensors, Gram matrices and blocks of at most 8 MiB, independent of the number of
    clients. A module costs 2 (out + in) (K r)² floating-point operations. With so many clients that the products
    themselves are cheaper, or that the Gram matrices exceed a block, it costs 2 out · in · K r.

    Args:
        parent: the global adapter that the round started from.
        deltas: p_k and the delta of each client.
        scale: α/r.
        n_threads: threads that work on modules at the same time.
    """

    def of_module(names: tuple[str, str]) -> tuple[float, float]:
        a_name, b_name = names
        clients = [(p, delta.view(a_name), delta.view(b_name)) for p, delta in deltas]
        return _squared_norms(_Module(parent.read(a_name), parent.read(b_name), clients))

    modules = [pair for pair in factors(parent.tensors) if all(delta.tensors.keys() >= {*pair} for _, delta in deltas)]
    norms = in_threads(n_threads, of_module, modules)
    gap, moved = (math.sqrt(math.fsum(squared)) for squared in zip(*norms, strict=True)) if norms else (0.0, 0.0)
    return FactorGap(scale * gap, scale * moved)


def _squared_norms(module: _Module) -> tuple[float, float]:
    """‖mean(BA) − mean(B) mean(A)‖² and ‖mean(BA) − BA‖² of one module."""
    rank, n_in = module.a.shape
    n_out, n_thin = module.b.shape[0], rank * (1 + len(module.clients))
    if 8 * n_thin**2 <= _BLOCK_BYTES and n_thin * (n_out + n_in) < 2 * n_out * n_in:
        left, right = _gram(n_thin, n_out, module.left), _gram(n_thin, n_in, module.right)
        gap = _norm_of_sum(module.of_gap(), left, right)
        moved = _norm_of_sum(module.of_movement(), left, right)
        if gap is not None and moved is not None:
            return gap, moved
    return _dense_norms(module)


def _norm_of_sum(c: Matrix, left: Matrix, right: Matrix) -> float | None:
    """‖Σ C_jk L_j R_k‖² from LᵀL and RRᵀ. None if rounding of its terms would dominate it."""
    squared = float(np.vdot(left, _combined(c, right)))
    size = float(np.vdot(np.abs(left), _combined(np.abs(c), np.abs(right))))
    return squared if size == 0.0 or squared > _CANCELLED * size else None


def _combined(c: Matrix, gram: Matrix) -> Matrix:
    """C G Cᵀ, where C (n, n) acts on the blocks of G (n r, n r)."""
    n = c.shape[0]
    blocks = gram.reshape(n, -1, n, gram.shape[0] // n)  # (n, r, n, r)
    once = np.tensordot(c, blocks, axes=(1, 0))
    return np.tensordot(once, c, axes=(2, 1)).transpose(0, 1, 3, 2).reshape(gram.shape)


def _dense_norms(module: _Module) -> tuple[float, float]:
    """The same norms from the products themselves, a block of their rows at a time."""
    squared_gap = squared_moved = 0.0
    mean_a = _mean([(p, a) for p, a, _ in module.clients])
    mean_b = _mean([(p, b) for p, _, b in module.clients])
    for rows in _blocks(module.b.shape[0], module.a.shape[1]):
        gap = np.zeros((module.b[rows].shape[0], module.a.shape[1]))
        for p, a, b in module.clients:
            gap += (p * (b[rows] - mean_b[rows])) @ (a[:] - mean_a)
        moved = module.b[rows] @ mean_a + mean_b[rows] @ (module.a + mean_a) + gap
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
    """Slices of *length*, so that a float64 block of a slice's length times *width* has at most _BLOCK_BYTES."""
    step = max(1, _BLOCK_BYTES // (8 * width))
    return [slice(begin, begin + step) for begin in range(0, length, step)]


def _mean(parts: Sequence[tuple[float, Factor]]) -> Matrix:
    """Σ p_k x_k, computed around x_1: Σ p_k may differ from 1 by rounding, but the mean of equal x must be exact."""
    first = parts[0][1][:].astype(np.float64)
    total = np.zeros_like(first)
    for p, values in parts[1:]:
        total += p * (values[:] - first)
    return first + total
