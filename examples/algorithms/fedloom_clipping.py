"""Clipping: FedAvg in which each client bounds the norm of its whole update.

McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models" (arXiv 1710.06963), section 3: flat
clipping, Δ_k ← Δ_k · min(1, S / ‖Δ_k‖₂), without the noise. The norm is over all tensors of the update.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from shared.algorithms import AlgorithmParams, ClientHalf, fedavg


class Params(AlgorithmParams):
    """The clipping's parameters."""

    bound: Annotated[float, Field(gt=0)] = 1.0
    """Norm bound S of an update."""


Server = fedavg.Server


class Client(ClientHalf[Params]):
    """Plain local training, then Δ ← Δ · min(1, S / ‖Δ‖₂)."""

    def finish_update(self, delta: Mapping[str, Any]) -> Mapping[str, Any]:
        norm = sum(float((tensor * tensor).sum()) for tensor in delta.values()) ** 0.5
        factor = min(1.0, self.params.bound / norm) if norm else 1.0
        return {name: tensor * factor for name, tensor in delta.items()}
