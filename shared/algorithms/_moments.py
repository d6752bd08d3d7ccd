"""Shared by the server optimizers: the two moments of Δ, and the step computed from them.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), algorithm 2. Differences from the paper:

- v starts at τ², as in OpenFedLLM; in the paper at τ² or above.
- m = Δ in the first round, as in OpenFedLLM, so that the first steps are not damped; in the paper m starts at zero.
- Adam and Yogi use m² for v, as in OpenFedLLM; in the paper Δ².
- Δ is weighted by the campaign's weighting; in the paper it is the plain mean.

Steps are written in place where they can be: a block then stays in the cache.
"""

from typing import Annotated, TypeVar

import numpy as np
from pydantic import Field

from shared.algorithms.base import AlgorithmParams, Array, ServerHalf


class AdaptiveParams(AlgorithmParams):
    """Parameters of FedAdagrad, FedYogi and FedAdam."""

    eta: Annotated[float, Field(gt=0)] = 1e-3
    """Server learning rate η."""
    tau: Annotated[float, Field(gt=0)] = 1e-3
    """Degree of adaptivity τ; v starts at τ²."""


class MomentsParams(AdaptiveParams):
    """Parameters of FedYogi and FedAdam."""

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

    def step(self, x: Array, direction: Array, v: Array) -> Array:
        """Return x + η d / (√v + τ) for the direction d. x, direction, v: same shape."""
        root: Array = np.sqrt(v)
        root += self.params.tau
        x_next = self.params.eta * direction
        x_next /= root
        x_next += x
        return x_next


def first_moment(m: Array, delta: Array, beta1: float, *, first: bool) -> Array:
    """Return β₁ m + (1 − β₁) Δ; in the first round Δ. m, delta: same shape. delta is overwritten."""
    if first:
        return delta
    moment = beta1 * m
    delta *= 1 - beta1
    moment += delta
    return moment
