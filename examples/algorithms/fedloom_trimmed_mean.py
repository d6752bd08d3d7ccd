"""Trimmed mean: discards the clients' largest and smallest values of each element, and averages the rest.

Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (arXiv 1803.01498),
definition 2, with deltas in place of gradients. All clients have the same weight, whatever the campaign's weighting:
clients declare their row counts themselves. All deltas of one block are in memory at once, since they are sorted.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from shared.algorithms import AlgorithmParams, ClientHalf, ServerHalf, Updates, elementwise
from shared.algorithms.base import Array


class Params(AlgorithmParams):
    """The trimmed mean's parameters."""

    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Share β of clients whose values are discarded at each end: ⌊β K⌋ of K. So many clients may be malicious."""


class Server(ServerHalf[Params]):
    """x ← x + the elementwise trimmed mean of the deltas."""

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:  # noqa: ARG002
        n_cut = int(self.params.trim * len(updates) + 1e-9)  # 0.29 · 100 is slightly below 29
        deltas = np.sort([update.read("delta") for update in updates], axis=0)  # (K, *x.shape)
        remaining = deltas[n_cut : len(updates) - n_cut]
        return x + remaining.mean(axis=0, dtype=np.float64).astype(np.float32)


class Client(ClientHalf[Params]):
    """Plain local training."""
