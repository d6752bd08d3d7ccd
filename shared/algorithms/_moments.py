"""What the server optimizers share: the two moments of Δ, and the step that they make.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), algorithm 2. Their v starts at least at τ²;
here it starts at τ², as in OpenFedLLM. Their m starts at zero; here it is Δ in the first round, as in OpenFedLLM, so
that the first steps are not damped. Their Adam and Yogi square Δ for v; here, as in OpenFedLLM, they square m.
Their Δ is the clients' plain mean; here it is weighted as the campaign says.
"""

from typing import Annotated, TypeVar

import numpy as np
from pydantic import Field

from shared.algorithms.base import AlgorithmParams, Array, ServerHalf


class AdaptiveParams(AlgorithmParams):
    """What FedAdagrad, FedYogi and FedAdam have in common."""

    eta: Annotated[float, Field(gt=0)] = 1e-3
    """Server learning rate η."""
    tau: Annotated[float, Field(gt=0)] = 1e-3
    """Degree of adaptivity τ; v starts at τ²."""


class MomentsParams(AdaptiveParams):
    """What FedYogi and FedAdam have in common."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay β₁ of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay β₂ of the second moment."""


A = TypeVar("A", bound=AdaptiveParams)


class AdaptiveServer(ServerHalf[A]):
    """A server half with a second moment ``v``."""

    def initial_state(self, slot: str, shape: tuple[int, ...]) -> Array:
        if slot == "v":
            return np.full(shape, self.params.tau**2, dtype=np.float32)
        return super().initial_state(slot, shape)

    def step(self, direction: Array, v: Array) -> Array:
        """η d / (√v + τ). direction, v: of one tensor's shape."""
        root: Array = np.sqrt(v)
        return self.params.eta * direction / (root + self.params.tau)


def first_moment(m: Array, delta: Array, beta1: float, *, first: bool) -> Array:
    """β₁ m + (1 − β₁) Δ; Δ itself in the first round. m, delta: of one tensor's shape."""
    return delta if first else beta1 * m + (1 - beta1) * delta
