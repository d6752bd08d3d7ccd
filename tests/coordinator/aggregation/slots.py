"""A test algorithm that uses every slot: x ← x + Δ + m, m ← ½ m + Σ q_k e_k; m is broadcast to the clients."""

from shared.algorithms.base import AlgorithmParams, Array, ClientHalf, ServerHalf, Updates


class Params(AlgorithmParams):
    """No parameters."""


class Server(ServerHalf[Params]):
    """State: m, which starts at one, and the number of rounds. Broadcasts m."""

    state = ("m", "rounds")
    broadcast = ("m",)

    def initial_state(self, slot: str, shape: tuple[int, ...]) -> Array:
        return super().initial_state(slot, shape) + (1 if slot == "m" else 0)

    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        assert first == (not state["rounds"].any())
        state["rounds"] = state["rounds"] + 1
        x_next = x + updates.mean_delta() + state["m"]
        state["m"] = state["m"] / 2 + updates.sum_in_campaign("e")
        return x_next


class Client(ClientHalf[Params]):
    """Uploads e."""

    extras = ("e",)
