"""Each server half compared with its formulas in plain float64, over six rounds of real files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.engine.aggregation.aggregate import Aggregated, aggregate
from coordinator.engine.aggregation.files import ClientUpdate
from shared import algorithms
from shared.adapters.files import AdapterFile, slot_name, write_adapter
from shared.algorithms import RoundFacts, Updates, UpdateTensor
from shared.campaign.spec import LoraSection
from shared.digest import sha256_file

SEVEN = ["fedadagrad", "fedadam", "fedavg", "fedavgm", "fedprox", "fedyogi", "scaffold"]
SHAPES = {"q.lora_A.weight": (2, 9), "q.lora_B.weight": (5, 2), "v.lora_A.weight": (2, 4), "v.lora_B.weight": (3, 2)}
ROWS = np.array([10, 250, 7, 90, 43])
"""Training rows of the campaign's five clients."""
ROUNDS = [(0, 1, 2, 3, 4), (1, 3), (0, 2, 4), (2,), (0, 1, 3, 4), (1, 2, 4)]
"""Client numbers whose update counts, round by round."""
LORA = LoraSection(rank=2, alpha=3)

Tensors = dict[str, np.ndarray]


def drawn(*seed: int) -> Tensors:
    """Magnitudes from 1e-5 to 0.1, on both sides of τ."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * 10.0 ** rng.uniform(-5, -1, shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def start() -> Tensors:
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.01, shape).astype(np.float32) for name, shape in SHAPES.items()}


def read(path: Path | None) -> Tensors:
    if path is None:
        return {}
    with AdapterFile(path) as file:
        assert {spec.dtype for spec in file.tensors.values()} == {"F32"}
        return {name: file.read(name).copy() for name in file.tensors}


# --- the formulas, each from its paper, for one tensor, in float64

Step = Callable[[dict[str, Any], np.ndarray, np.ndarray, bool], np.ndarray]
"""(state and parameters, Δ, Σ q_k Δc_k, whether it is the first round) -> increment of x."""


def averaging(s: dict[str, Any], delta: np.ndarray, _sum: np.ndarray, _first: bool) -> np.ndarray:
    return delta


def scaffold(s: dict[str, Any], delta: np.ndarray, sum_of_controls: np.ndarray, _first: bool) -> np.ndarray:
    s["c"] = s["c"] + sum_of_controls
    return s["eta_g"] * delta


def momentum(s: dict[str, Any], delta: np.ndarray, _sum: np.ndarray, first: bool) -> np.ndarray:
    s["m"] = delta if first else s["beta1"] * s["m"] + (1 - s["beta1"]) * delta
    return s["m"]


def adagrad(s: dict[str, Any], delta: np.ndarray, _sum: np.ndarray, _first: bool) -> np.ndarray:
    s["v"] = s["v"] + delta**2
    return s["eta"] * delta / (s["v"] ** 0.5 + s["tau"])


def yogi(s: dict[str, Any], delta: np.ndarray, _sum: np.ndarray, first: bool) -> np.ndarray:
    momentum(s, delta, _sum, first)
    grows = s["v"] < s["m"] ** 2
    s["v"] = np.where(grows, s["v"] + (1 - s["beta2"]) * s["m"] ** 2, s["v"] - (1 - s["beta2"]) * s["m"] ** 2)
    return s["eta"] * s["m"] / (s["v"] ** 0.5 + s["tau"])


def adam(s: dict[str, Any], delta: np.ndarray, _sum: np.ndarray, first: bool) -> np.ndarray:
    momentum(s, delta, _sum, first)
    s["v"] = s["beta2"] * s["v"] + (1 - s["beta2"]) * s["m"] ** 2
    return s["eta"] * s["m"] / (s["v"] ** 0.5 + s["tau"])


@dataclass(frozen=True)
class Formula:
    """step, the slots of its state, and its default parameters."""

    step: Step
    slots: tuple[str, ...] = ()
    defaults: tuple[tuple[str, float], ...] = ()


MOMENTS = (("beta1", 0.9), ("beta2", 0.99), ("eta", 1e-3), ("tau", 1e-3))
FORMULAS = {
    "fedavg": Formula(averaging),
    "fedprox": Formula(averaging),
    "scaffold": Formula(scaffold, ("c",), (("eta_g", 1.0),)),
    "fedavgm": Formula(momentum, ("m",), (("beta1", 0.9),)),
    "fedadagrad": Formula(adagrad, ("v",), MOMENTS[2:]),
    "fedyogi": Formula(yogi, ("m", "v"), MOMENTS),
    "fedadam": Formula(adam, ("m", "v"), MOMENTS),
}
OTHERS = {
    "fedprox": {"mu": 1.0},
    "scaffold": {"eta_g": 0.4},
    "fedavgm": {"beta1": 0.5},
    "fedadagrad": {"eta": 0.02, "tau": 0.01},
    "fedyogi": {"beta1": 0.5, "beta2": 0.8, "eta": 0.02, "tau": 0.01},
    "fedadam": {"beta1": 0.5, "beta2": 0.8, "eta": 0.02, "tau": 0.01},
}
CASES = [(name, {}) for name in SEVEN] + list(OTHERS.items())


def expected(name: str, params: dict[str, float]) -> Iterator[tuple[Tensors, dict[str, Tensors]]]:
    """Adapter and state after each round."""
    formula = FORMULAS[name]
    settings_ = dict(formula.defaults) | params
    x = {tensor: values.astype(np.float64) for tensor, values in start().items()}
    state: dict[str, dict[str, Any]] = {}
    for tensor, shape in SHAPES.items():
        zero = {slot: np.zeros(shape) for slot in formula.slots}
        if "v" in zero:
            zero["v"] = np.full(shape, settings_["tau"] ** 2)
        state[tensor] = zero | settings_
    for number, clients in enumerate(ROUNDS, 1):
        for tensor in SHAPES:
            delta = sum(ROWS[k] * drawn(number, k)[tensor].astype(np.float64) for k in clients)
            delta = delta / sum(ROWS[k] for k in clients)
            controls = sum(ROWS[k] * drawn(number, k, 1)[tensor].astype(np.float64) for k in clients) / ROWS.sum()
            x[tensor] = x[tensor] + formula.step(state[tensor], delta, controls, number == 1)
        yield x, {slot: {tensor: state[tensor][slot] for tensor in SHAPES} for slot in formula.slots}


# --- the rounds as the engine runs them


def updates_of(folder: Path, number: int, clients: Sequence[int], *, with_extras: bool) -> list[ClientUpdate]:
    made = []
    for k in clients:
        delta, extras = folder / f"delta-{number}-{k}", folder / f"extras-{number}-{k}"
        write_adapter(delta, drawn(number, k))
        if with_extras:
            named = {slot_name("delta_c", name): values for name, values in drawn(number, k, 1).items()}
            write_adapter(extras, named)
        p, q = ROWS[k] / sum(ROWS[j] for j in clients), ROWS[k] / ROWS.sum()
        made.append(ClientUpdate(k, float(p), float(q), delta, extras if with_extras else None))
    return made


def digests(made: Aggregated) -> list[str | None]:
    return [sha256_file(path) if path is not None else None for path in (made.adapter, made.state, made.broadcast)]


@pytest.mark.parametrize(("name", "params"), CASES)
def test_six_rounds_follow_the_formulas(tmp_path: Path, name: str, params: dict[str, float]) -> None:
    algorithm = algorithms.find(name)
    write_adapter(tmp_path / "start", start())
    parent, state = tmp_path / "start", None
    for number, (x, expected_state) in enumerate(expected(name, params), 1):
        updates = updates_of(tmp_path, number, ROUNDS[number - 1], with_extras=bool(algorithm.client.extras))
        shuffled = [updates[k] for k in np.random.default_rng(number).permutation(len(updates))]
        made = []
        for arrival in (updates, updates[::-1], shuffled):
            out = tmp_path / f"out-{number}-{len(made)}"
            out.mkdir()
            given_params = algorithm.params.model_validate(params)
            facts = RoundFacts(number, seed=0, scale=LORA.scale, first=number == 1)
            made.append(aggregate(algorithm, given_params, parent, state, arrival, out, facts=facts, lora=LORA))
        assert digests(made[0]) == digests(made[1]) == digests(made[2])
        parent, state = made[0].adapter, made[0].state
        for tensor, values in read(parent).items():
            np.testing.assert_allclose(values, x[tensor], rtol=1e-6, atol=1e-8)
        found = read(state)
        assert set(found) == {slot_name(slot, tensor) for slot in expected_state for tensor in SHAPES}
        for slot, tensors in expected_state.items():
            for tensor, values in tensors.items():
                size = float(np.abs(values).max())
                np.testing.assert_allclose(found[slot_name(slot, tensor)], values, rtol=1e-5, atol=1e-7 * size)
        sent = {key: values.tobytes() for key, values in read(made[0].broadcast).items()}
        assert sent == ({key: values.tobytes() for key, values in found.items()} if name == "scaffold" else {})
    for tensor, values in start().items():
        np.testing.assert_array_equal(read(tmp_path / "start")[tensor], values)


def test_the_rounds_move_yogis_second_moment_both_ways() -> None:
    seen = [
        np.concatenate([values.reshape(-1) for values in state["v"].values()]) for _, state in expected("fedyogi", {})
    ]
    assert (seen[0] < 1e-6).any()
    assert (seen[0] > 1e-6).any()


# --- exact properties

EXACT: list[tuple[str, dict[str, float]]] = [
    ("fedavg", {}),
    ("fedprox", {"mu": 0.0}),
    ("scaffold", {"eta_g": 1.0}),
    ("fedavgm", {}),
]


@pytest.mark.parametrize(("name", "params"), EXACT)
@pytest.mark.parametrize("n_clients", [1, 2, 7])
def test_equal_deltas_and_the_delta_of_one_client_are_taken_over_exactly(
    tmp_path: Path, name: str, params: dict[str, float], n_clients: int
) -> None:
    algorithm = algorithms.find(name)
    write_adapter(tmp_path / "zero", {tensor: np.zeros(shape, np.float32) for tensor, shape in SHAPES.items()})
    write_adapter(tmp_path / "delta", drawn(1, 1))
    extras = {slot_name("delta_c", tensor): np.zeros(shape, np.float32) for tensor, shape in SHAPES.items()}
    write_adapter(tmp_path / "extras", extras)
    weights = np.random.default_rng(n_clients).dirichlet(np.ones(n_clients))
    updates = [
        ClientUpdate(k, float(p), float(p), tmp_path / "delta", tmp_path / "extras") for k, p in enumerate(weights)
    ]
    validated = algorithm.params.model_validate(params)
    facts = RoundFacts(number=1, seed=0, scale=LORA.scale, first=True)
    made = aggregate(algorithm, validated, tmp_path / "zero", None, updates, tmp_path, facts=facts, lora=LORA)
    assert made.adapter.read_bytes() == (tmp_path / "delta").read_bytes()


floats = st.floats(-1e3, 1e3, width=32)


@pytest.mark.parametrize("name", SEVEN)
@given(
    deltas=st.lists(st.lists(floats, min_size=3, max_size=3), min_size=1, max_size=4),
    x=st.lists(floats, min_size=3, max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_everything_stays_float32_and_x_is_left_alone(name: str, deltas: list[list[float]], x: list[float]) -> None:
    algorithm = algorithms.find(name)
    server = algorithm.server(algorithm.params())
    before = np.float32(x)
    before.flags.writeable = False
    state = {slot: server.initial_state(slot, (3,)) for slot in server.state}

    def tensor(delta: list[float]) -> UpdateTensor:
        values = np.float32(delta)
        values.flags.writeable = False
        return UpdateTensor(1 / len(deltas), 1 / 5, values.shape, lambda slot: values)

    for first in (True, False):
        after = server.aggregate(before, Updates([tensor(delta) for delta in deltas], "w", (3,)), state, first=first)
        assert (after.dtype, after.shape) == (np.float32, (3,))
        assert {values.dtype for values in state.values()} <= {np.dtype(np.float32)}
        assert np.isfinite(after).all()
        assert all((values >= 0).all() for slot, values in state.items() if slot == "v")
    np.testing.assert_array_equal(before, np.float32(x))


# --- two rounds of the server optimizers, by hand; default parameters, x = 0, first Δ then 2 Δ


@pytest.mark.parametrize(
    ("name", "delta", "first", "second"),
    [
        # v = 1e-6 + 4e-6, then + 16e-6; 2e-6 / (√5 + 1)e-3, then + 4e-6 / (√21 + 1)e-3
        ("fedadagrad", 2e-3, 6.180340e-4, 1.3345491e-3),
        # m = 2e-3, v = 0.99e-6 + 0.04e-6; then m = 2.2e-3, v = 1.0197e-6 + 0.0484e-6
        ("fedadam", 2e-3, 9.926104e-4, 2.0744947e-3),
        # v < m²: 1e-6 + 0.04e-6; then 1.04e-6 + 0.0484e-6
        ("fedyogi", 2e-3, 9.901951e-4, 2.0669037e-3),
        # v > m²: 1e-6 − 0.0025e-6; then m = 5.5e-4, v = 0.9975e-6 − 0.003025e-6
        ("fedyogi", 5e-4, 2.501564e-4, 5.255373e-4),
    ],
)
def test_first_steps_by_hand(name: str, delta: float, first: float, second: float) -> None:
    algorithm = algorithms.find(name)
    server = algorithm.server(algorithm.params())
    state = {slot: server.initial_state(slot, (1,)) for slot in server.state}
    x = np.zeros(1, dtype=np.float32)
    for number, (step, wanted) in enumerate(((delta, first), (2 * delta, second))):
        updates = Updates([UpdateTensor(1.0, 1.0, (1,), lambda slot, step=step: np.float32([step]))], "w", (1,))
        x = server.aggregate(x, updates, state, first=number == 0)
        assert float(x[0]) == pytest.approx(wanted, rel=2e-6)
