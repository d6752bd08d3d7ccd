"""Trimmed mean: of every number, the clients' largest and smallest values are left out before averaging.

Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (arXiv 1803.01498),
definition 2, with deltas in the place of gradients. Every client counts the same, whatever the campaign's weighting
says: row counts are the clients' own word. All deltas of one tensor are in memory at once, since values are compared.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from shared.algorithms import AlgorithmParams, ClientHalf, ServerHalf, Updates
from shared.algorithms.base import Array


class Params(AlgorithmParams):
    """The trimmed mean's parameters."""

    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Share β of the clients that is left out at each end: ⌊β K⌋ of a round's K, so that many may lie at will."""


class Server(ServerHalf[Params]):
    """x ← x + the mean of what is left of the deltas, for each number by itself."""

    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:  # noqa: ARG002
        n_cut = int(self.params.trim * len(updates) + 1e-9)  # 0.29 · 100 is a little less than 29
        deltas = np.sort([update.read("delta") for update in updates], axis=0)  # (K, *x.shape)
        left = deltas[n_cut : len(updates) - n_cut]
        return x + left.mean(axis=0, dtype=np.float64).astype(np.float32)


class Client(ClientHalf[Params]):
    """Plain local training."""
