"""FedYogi: the server takes Yogi steps, with Δ in place of the gradient.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), algorithm 2, in the form of OpenFedLLM:
m ← β₁ m + (1 − β₁) Δ, v ← v − (1 − β₂) m² sign(v − m²), x ← x + η m / (√v + τ). The paper has Δ² in place of m².
v starts at τ²; m = Δ in the first round; there is no bias correction. Δ is weighted by the campaign's weighting.
"""

import numpy as np

from shared.algorithms import fedavg
from shared.algorithms._moments import AdaptiveServer, MomentsParams, first_moment
from shared.algorithms.base import Array, Updates, elementwise

_SIGN_BIT = np.uint32(1 << 31)


class Params(MomentsParams):
    """FedYogi's parameters."""


class Server(AdaptiveServer[Params]):
    """v changes by at most (1 − β₂) m², independent of its size; x ← x + η m / (√v + τ)."""

    state = ("m", "v")

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        m = first_moment(state["m"], updates.mean_delta(), self.params.beta1, first=first)
        squared = m * m
        difference = state["v"] - squared
        is_zero = difference == 0
        squared *= 1 - self.params.beta2
        # m² sign(v − m²) by its bits, since squares have no sign: np.sign takes several times as long
        sign = difference.view(np.uint32)
        sign &= _SIGN_BIT
        signed = squared.view(np.uint32)
        signed |= sign
        squared[is_zero] = 0
        state["m"], state["v"] = m, state["v"] - squared
        return self.step(x, m, state["v"])


Client = fedavg.Client
