"""FedAvgM: FedAvg with server momentum.

Hsu, Qi and Brown 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification"
(arXiv 1909.06335), in the damped form of OpenFedLLM: m ← β₁ m + (1 − β₁) Δ, x ← x + m, with m = Δ in the first round.
Hsu et al. have v ← β v + Δ, whose steps are 1/(1 − β) times as long at the same β.
"""

from typing import Annotated

from pydantic import Field

from shared.algorithms import fedavg
from shared.algorithms._moments import first_moment
from shared.algorithms.base import AlgorithmParams, Array, ServerHalf, Updates, elementwise


class Params(AlgorithmParams):
    """FedAvgM's parameters."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum β₁."""


class Server(ServerHalf[Params]):
    """m ← β₁ m + (1 − β₁) Δ; x ← x + m."""

    state = ("m",)

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        state["m"] = first_moment(state["m"], updates.mean_delta(), self.params.beta1, first=first)
        return x + state["m"]


Client = fedavg.Client
