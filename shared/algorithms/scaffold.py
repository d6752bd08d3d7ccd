"""SCAFFOLD: control variates correct each client's drift towards its own optimum.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning" (arXiv 1910.06378),
algorithm 1 with option II. Client k stores c_k, its mean step in units of gradient; the server stores c = Σ q_k c_k.

    each step     w ← w − lr (c − c_k), after the optimizer's step
    at the end    c_k⁺ = c_k − c + (x − w) / (S lr)      S: steps actually done, lr: their mean rate
    server        x ← x + η_g Δ,   c ← c + Σ_{k in round} q_k (c_k⁺ − c_k)

Differences from the paper: q_k, the client's weight in the whole campaign, replaces 1/N. With example weights, 1/N
would make c a different mean than the one that is zero at the optimum. The correction is a separate step, so any
optimizer can precede it. With AdamW, c_k is the client's mean *preconditioned* step; the paper's convergence holds for
SGD only.

c is the weighted mean of all c_k, and the server never sees a c_k. If a client loses its c_k, the coordinator resets c
and all c_k to zero. Otherwise a share of the lost c_k would stay in c for good and move the fixed point.
"""

from typing import Annotated, Any

from pydantic import Field

from shared.algorithms.base import AlgorithmParams, Array, ClientHalf, ServerHalf, Updates, elementwise


class Params(AlgorithmParams):
    """SCAFFOLD's parameters."""

    eta_g: Annotated[float, Field(gt=0)] = 1.0
    """Server learning rate η_g."""


class Server(ServerHalf[Params]):
    """x ← x + η_g Δ; c ← c + Σ q_k Δc_k over the round's clients."""

    state = ("c",)
    broadcast = ("c",)
    client_sums = ("c",)

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:  # noqa: ARG002
        state["c"] = state["c"] + updates.sum_in_campaign("delta_c")
        return x + self.params.eta_g * updates.mean_delta()


class Client(ClientHalf[Params]):
    """Corrects each step by c − c_k and uploads Δc_k = c_k⁺ − c_k."""

    extras = ("delta_c",)
    state = ("c_k",)

    def after_step(self, name: str, w: Any, lr: float) -> None:
        c, c_k = self.broadcast.get("c"), self.client_state.get("c_k")
        if c is not None:
            w -= lr * c[name]
        if c_k is not None:
            w += lr * c_k[name]

    def finish(self, name: str, w: Any, anchor: Any, lr: float, steps: int) -> dict[str, Any]:
        zero = anchor * 0
        c_k = self.client_state["c_k"][name] if self.client_state else zero
        if steps == 0:
            return {"delta_c": zero, "c_k": c_k}
        c = self.broadcast["c"][name] if self.broadcast else zero
        delta_c = (anchor - w) / (steps * lr) - c
        return {"delta_c": delta_c, "c_k": c_k + delta_c}
