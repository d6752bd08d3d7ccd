"""FedAdam: the server takes Adam steps, with Δ in place of the gradient.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), algorithm 2, in the form of OpenFedLLM:
m ← β₁ m + (1 − β₁) Δ, v ← β₂ v + (1 − β₂) m², x ← x + η m / (√v + τ). The paper has Δ² in place of m². v starts at τ²;
m = Δ in the first round; there is no bias correction. Δ is weighted by the campaign's weighting.
"""

from shared.algorithms import fedavg
from shared.algorithms._moments import AdaptiveServer, MomentsParams, first_moment
from shared.algorithms.base import Array, Updates, elementwise


class Params(MomentsParams):
    """FedAdam's parameters."""


class Server(AdaptiveServer[Params]):
    """m and v are moving averages of Δ and m²; x ← x + η m / (√v + τ)."""

    state = ("m", "v")

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        m = first_moment(state["m"], updates.mean_delta(), self.params.beta1, first=first)
        squared = m * m
        squared *= 1 - self.params.beta2
        v = self.params.beta2 * state["v"]
        v += squared
        state["m"], state["v"] = m, v
        return self.step(x, m, v)


Client = fedavg.Client
