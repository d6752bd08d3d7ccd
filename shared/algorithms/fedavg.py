"""FedAvg: the next global adapter is the weighted mean of the clients' adapters.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", algorithm 1, written
with deltas: x + Σ p_k (w_k − x) = Σ p_k w_k.
"""

from shared.algorithms.base import AlgorithmParams, Array, ClientHalf, ServerHalf, Updates, elementwise


class Params(AlgorithmParams):
    """FedAvg has no parameters."""


class Server(ServerHalf[Params]):
    """x ← x + Δ."""

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:  # noqa: ARG002
        return x + updates.mean_delta()


class Client(ClientHalf[Params]):
    """Plain local training."""
