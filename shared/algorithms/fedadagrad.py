"""FedAdagrad: the server takes Adagrad steps, with Δ in place of the gradient.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), algorithm 2 with β₁ = 0, as in OpenFedLLM:
v ← v + Δ², x ← x + η Δ / (√v + τ). v starts at τ². Δ is weighted by the campaign's weighting; the paper has the plain
mean.
"""

from shared.algorithms import fedavg
from shared.algorithms._moments import AdaptiveParams, AdaptiveServer
from shared.algorithms.base import Array, Updates, elementwise


class Params(AdaptiveParams):
    """FedAdagrad's parameters."""


class Server(AdaptiveServer[Params]):
    """v ← v + Δ²; x ← x + η Δ / (√v + τ)."""

    state = ("v",)

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:  # noqa: ARG002
        delta = updates.mean_delta()
        state["v"] = state["v"] + delta * delta
        return self.step(x, delta, state["v"])


Client = fedavg.Client
