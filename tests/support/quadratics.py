"""A convex federated problem with a known optimum, and rounds on it in numpy with an algorithm's real halves."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared import algorithms
from shared.algorithms import Updates, UpdateTensor
from shared.algorithms.base import Array

SHAPES = {"u": (2, 2), "v": (2,)}
"""The six parameters as two tensors, so that a mix-up of tensor names shows."""
Tensors = dict[str, Array]


def split(flat: np.ndarray) -> Tensors:
    return {"u": np.float32(flat[:4]).reshape(2, 2), "v": np.float32(flat[4:])}


def joined(tensors: Tensors) -> np.ndarray:
    return np.concatenate([tensors[name].reshape(-1) for name in SHAPES])


@dataclass(frozen=True)
class Quadratics:
    """Client k has f_k(w) = ½ (w − a_k)ᵀ H_k (w − a_k). a: (K, 6). h: (K, 6, 6). rows: (K,), its training rows."""

    a: np.ndarray
    h: np.ndarray
    rows: np.ndarray

    @classmethod
    def drawn(cls, seed: int, rows: Iterable[int]) -> "Quadratics":
        """Draw a problem: curvatures from 0.2 to 2, in directions that differ by client, and optima far apart."""
        rng, n_rows = np.random.default_rng(seed), np.array(list(rows))
        bases = [np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in n_rows]
        h = np.stack([basis @ np.diag(rng.uniform(0.2, 2, 6)) @ basis.T for basis in bases])
        return cls(rng.normal(0, 3, (len(n_rows), 6)), h, n_rows)

    def shares(self, by: str) -> np.ndarray:
        """Weights of all clients, (K,), with sum 1. by: "examples" or "uniform"."""
        weights = self.rows if by == "examples" else np.ones(len(self.rows))
        return weights / weights.sum()

    def gradient(self, k: int, w: np.ndarray) -> np.ndarray:
        return self.h[k] @ (w - self.a[k])

    def loss(self, w: np.ndarray, shares: np.ndarray) -> float:
        return float(sum(p * (w - a) @ h @ (w - a) / 2 for p, a, h in zip(shares, self.a, self.h, strict=True)))

    def optimum(self, shares: np.ndarray, push: np.ndarray | float = 0.0) -> np.ndarray:
        """The w with Σ p_k ∇f_k(w) = push."""
        return zero_of(shares, self.h, self.a, push)


def zero_of(shares: np.ndarray, maps: np.ndarray, a: np.ndarray, push: np.ndarray | float = 0.0) -> np.ndarray:
    """The w with Σ p_k M_k (w − a_k) = push. maps: (K, d, d)."""
    right = np.einsum("k,kij,kj->i", shares, maps, a) + push
    return np.asarray(np.linalg.solve(np.einsum("k,kij->ij", shares, maps), right))


@dataclass
class Federation:
    """Rounds as Fedloom runs them, with plain SGD at the clients.

    restarts: a client that lost its state restarts the algorithm for all. commits: a client keeps only the state of its
    last accepted update. Fedloom does both.
    """

    problem: Quadratics
    name: str
    params: dict[str, Any] = field(default_factory=dict)
    by: str = "examples"
    steps: int = 20
    lr: float = 0.05
    server: type | None = None
    restarts: bool = True
    commits: bool = True

    def __post_init__(self) -> None:
        self._algorithm = algorithms.find(self.name)
        self._params = self._algorithm.params.model_validate(self.params)
        self._q = self.problem.shares(self.by)
        self.x: Tensors = split(np.zeros(6))
        self.state: dict[str, Tensors] = {}
        self.committed: set[int] = set()
        self.client_states: dict[int, dict[str, Tensors]] = {}

    @property
    def w(self) -> np.ndarray:
        return joined(self.x).astype(np.float64)

    def distance_to(self, w: np.ndarray) -> float:
        return float(np.linalg.norm(self.w - w))

    def run(self, rounds: int, draw: int | None = None, late: int = 0) -> "Federation":
        """Run rounds with *draw* clients each, or all. The updates of the last *late* clients drawn are discarded."""
        for number in range(rounds):
            drawn = np.random.default_rng(number).permutation(len(self._q))[:draw]
            self.round(drawn.tolist(), drawn[len(drawn) - late :].tolist())
        return self

    def round(self, clients: Iterable[int], late: Collection[int] = ()) -> None:
        """Run one round. The updates of the late clients are discarded."""
        trained = {k: self.train(k) for k in sorted(clients)}
        in_time = {k: slots for k, slots in trained.items() if k not in late}
        lost = [
            k for k in in_time if self._algorithm.client.state and k in self.committed and k not in self.client_states
        ]
        self._aggregate(in_time)
        for k, slots in (in_time if self.commits else trained).items():
            self.committed.add(k)
            self.client_states[k] = {slot: slots[slot] for slot in self._algorithm.client.state}
        if lost and self.restarts:
            self.state, self.client_states = {}, {}
            self.committed.clear()

    def train(self, k: int) -> dict[str, Tensors]:
        """Train a client. Returns its delta, its extras and its new client state."""
        broadcast = {slot: self.state[slot] for slot in self._algorithm.server.broadcast if self.state}
        client = self._algorithm.client(self._params, broadcast, self.client_states.get(k, {}))
        w = {name: values.copy() for name, values in self.x.items()}
        for _ in range(self.steps):
            gradients = split(self.problem.gradient(k, joined(w)))
            for name, values in w.items():
                term = client.extra_grad(name, values, self.x[name])
                values -= np.float32(self.lr) * (gradients[name] if term is None else gradients[name] + term)
                client.after_step(name, values, self.lr)
        made: dict[str, Tensors] = {"delta": {name: w[name] - self.x[name] for name in SHAPES}}
        for name in SHAPES:
            for slot, values in client.finish(name, w[name], self.x[name], self.lr, self.steps).items():
                made.setdefault(slot, {})[name] = values
        return made

    def _aggregate(self, updates: dict[int, dict[str, Tensors]]) -> None:
        server = (self.server or self._algorithm.server)(self._params)
        in_round = sum(self._q[k] for k in updates)
        first = not self.state
        made: dict[str, Tensors] = {slot: {} for slot in server.state}
        for name, shape in SHAPES.items():
            tensors = [
                UpdateTensor(q / in_round, q, shape, lambda slot, slots=slots, name=name: slots[slot][name])
                for q, slots in ((self._q[k], slots) for k, slots in updates.items())
            ]
            state = {
                slot: server.initial_state(slot, shape) if first else self.state[slot][name] for slot in server.state
            }
            self.x[name] = server.aggregate(self.x[name], Updates(tensors, name, shape), state, first=first)
            for slot, values in state.items():
                made[slot][name] = values
        self.state = made
