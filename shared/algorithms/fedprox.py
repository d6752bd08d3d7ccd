"""FedProx: FedAvg with a proximal term that keeps each client near the global adapter.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (arXiv 1812.06127), eq. 2: client k minimises
F_k(w) + μ/2 ‖w − x‖². The term's gradient μ (w − x) is added to the gradient instead of to the loss, so it is applied
once per step, however many micro-batches the batch is split into. With AdamW it is preconditioned together with the
loss's gradient. The paper's clients may stop at different inexactness γ; here all take the campaign's steps.
"""

from typing import Annotated, Any

from pydantic import Field

from shared.algorithms import fedavg
from shared.algorithms.base import AlgorithmParams, ClientHalf


class Params(AlgorithmParams):
    """FedProx's parameters."""

    mu: Annotated[float, Field(ge=0)] = 0.01
    """Weight μ of the proximal term."""

    @property
    def pull(self) -> float:
        """μ."""
        return self.mu


class Server(fedavg.Server):
    """x ← x + Δ, as in FedAvg."""


class Client(ClientHalf[Params]):
    """Adds the proximal term's gradient."""

    def extra_grad(self, name: str, w: Any, anchor: Any) -> Any:  # noqa: ARG002
        return self.params.mu * (w - anchor)
