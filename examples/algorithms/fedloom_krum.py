"""Krum: takes the one update that is nearest to its neighbours, and passes over up to f malicious ones.

Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (arXiv 1703.02757),
section 3, with deltas in place of gradients. Distances are over all tensors, so updates are read twice. All clients
have the same weight, whatever the campaign's weighting.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from shared.adapters.files import AdapterError
from shared.algorithms import AlgorithmParams, ClientHalf, Part, RoundFacts, ServerHalf, UpdateTensor
from shared.algorithms.base import Array


class Params(AlgorithmParams):
    """Krum's parameters."""

    f: Annotated[int, Field(ge=0)] = 1
    """Clients that may be malicious. A round needs 2 f + 3 updates."""


class Server(ServerHalf[Params]):
    """x ← x + the delta with the least sum of squared distances to its K − f − 2 nearest ones."""

    squared: Any = 0.0  # (K, K), ‖Δ_j − Δ_k‖²

    def measure(self, part: Part, facts: RoundFacts) -> None:  # noqa: ARG002
        for updates in part.updates.values():
            self.squared += np.array([[_squared_distance(a, b) for b in updates] for a in updates])

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:  # noqa: ARG002
        if (n_nearest := len(self.squared) - self.params.f - 2) < self.params.f + 1:
            raise AdapterError(f"Krum with f = {self.params.f} needs {2 * self.params.f + 3} updates")
        chosen = np.sort(self.squared)[:, 1 : 1 + n_nearest].sum(axis=1).argmin()
        return {name: x + part.updates[name][chosen].read("delta") for name, x in part.x.items()}


def _squared_distance(a: UpdateTensor, b: UpdateTensor) -> float:
    difference = np.subtract(a.read("delta"), b.read("delta"), dtype=np.float64).reshape(-1)
    return float(difference @ difference)


class Client(ClientHalf[Params]):
    """Plain local training."""
