"""The streaming sum: compared with plain numpy, its memory, and the slots of an algorithm."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from coordinator.engine.aggregation.aggregate import aggregate
from coordinator.engine.aggregation.files import ClientUpdate
from shared import algorithms
from shared.adapters.files import AdapterError, AdapterFile, slot_name, write_adapter
from shared.algorithms import Algorithm, RoundFacts
from shared.campaign.spec import LoraSection
from tests.coordinator.aggregation import slots

SHAPES = {"a.lora_A.weight": (4, 30), "a.lora_B.weight": (20, 4), "b.lora_A.weight": (4, 7)}
FEDAVG = algorithms.find("fedavg")
LORA = LoraSection(rank=4)
FIRST = RoundFacts(number=1, seed=0, scale=LORA.scale, first=True)
SECOND = RoundFacts(number=2, seed=0, scale=LORA.scale, first=False)
SLOTS = Algorithm("slots", "", slots.Params, slots.Server, slots.Client)


def random_tensors(seed: int, prefix: str = "") -> dict[str, np.ndarray]:
    noise = np.random.default_rng(seed)
    return {prefix + name: noise.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def make_update(folder: Path, number: int, p: float, q: float = 0.0, *, with_extras: bool = False) -> ClientUpdate:
    delta, extras = folder / f"delta-{number}", folder / f"extras-{number}"
    write_adapter(delta, random_tensors(number))
    if with_extras:
        write_adapter(extras, random_tensors(1000 + number, "e/"))
    return ClientUpdate(number, p, q, delta, extras if with_extras else None)


def read(path: Path) -> dict[str, np.ndarray]:
    with AdapterFile(path) as file:
        return {name: np.array(file.read(name)) for name in file.tensors}


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    write_adapter(tmp_path / "parent", random_tensors(99))
    return tmp_path / "parent"


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_equals_numpys_in_any_order(tmp_path: Path, parent: Path, seed: int) -> None:
    noise = np.random.default_rng(seed)
    n_clients = int(noise.integers(1, 12))
    weights = noise.dirichlet(np.ones(n_clients))
    updates = [make_update(tmp_path, number, float(p)) for number, p in enumerate(weights)]
    made = []
    for order in (updates, updates[::-1], [updates[each] for each in noise.permutation(n_clients)]):
        out = tmp_path / f"out-{len(made)}"
        out.mkdir()
        made.append(aggregate(FEDAVG, FEDAVG.params(), parent, None, order, out, facts=FIRST, lora=LORA))
    assert len({each.adapter.read_bytes() for each in made}) == 1
    assert made[0].broadcast is made[0].state is None
    x = random_tensors(99)
    squared = 0.0
    for name, found in read(made[0].adapter).items():
        mean = sum(p * random_tensors(number)[name].astype(np.float64) for number, p in enumerate(weights))
        np.testing.assert_array_equal(found, x[name] + mean.astype(np.float32))
        squared += float(((found.astype(np.float64) - x[name]) ** 2).sum())
    assert made[0].update_norm == pytest.approx(squared**0.5, rel=1e-12)


def test_memory_does_not_grow_with_the_number_of_clients(tmp_path: Path) -> None:
    tensors = {f"{number}.lora_A.weight": np.ones((8, 16_384), dtype=np.float32) for number in range(6)}
    write_adapter(tmp_path / "parent", tensors)
    updates = [ClientUpdate(number, 1 / 64, 0, tmp_path / "parent", None) for number in range(64)]
    peaks = []
    for n_clients in (4, 64):
        tracemalloc.start()
        aggregate(
            FEDAVG, FEDAVG.params(), tmp_path / "parent", None, updates[:n_clients], tmp_path, facts=FIRST, lora=LORA
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    one_tensor = 8 * 16_384 * 4
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 10 * one_tensor


def test_state_broadcast_and_extras_reach_the_algorithm(tmp_path: Path, parent: Path) -> None:
    updates = [make_update(tmp_path, number, 0.5, 0.25, with_extras=True) for number in (0, 1)]
    first_out, second_out = tmp_path / "first", tmp_path / "second"
    first_out.mkdir()
    second_out.mkdir()
    first = aggregate(SLOTS, slots.Params(), parent, None, updates, first_out, facts=FIRST, lora=LORA)
    second = aggregate(SLOTS, slots.Params(), first.adapter, first.state, updates, second_out, facts=SECOND, lora=LORA)
    x = read(parent)
    m = {name: np.ones(shape, dtype=np.float32) for name, shape in SHAPES.items()}
    for round_number, made in ((1, first), (2, second)):
        assert made.state is not None
        assert made.broadcast is not None
        adapter, state, broadcast = read(made.adapter), read(made.state), read(made.broadcast)
        assert set(state) == {slot_name(slot, name) for slot in ("m", "rounds") for name in SHAPES}
        assert set(broadcast) == {slot_name("m", name) for name in SHAPES}
        for name in SHAPES:
            deltas = [random_tensors(number)[name].astype(np.float64) for number in (0, 1)]
            extras = [random_tensors(1000 + number, "e/")[f"e/{name}"].astype(np.float64) for number in (0, 1)]
            mean, extra = 0.5 * deltas[0] + 0.5 * deltas[1], 0.25 * extras[0] + 0.25 * extras[1]
            x[name] = x[name] + mean.astype(np.float32) + m[name]
            m[name] = m[name] / 2 + extra.astype(np.float32)
            np.testing.assert_array_equal(adapter[name], x[name])
            np.testing.assert_array_equal(state[slot_name("m", name)], m[name])
            np.testing.assert_array_equal(state[slot_name("rounds", name)], round_number)
            np.testing.assert_array_equal(broadcast[slot_name("m", name)], m[name])


def test_a_result_that_is_not_finite_is_an_error_that_names_the_tensor(tmp_path: Path) -> None:
    large = {name: np.full(shape, 3e38, dtype=np.float32) for name, shape in SHAPES.items()}
    write_adapter(tmp_path / "large", large)
    updates = [ClientUpdate(0, 1.0, 1.0, tmp_path / "large", None)]
    with pytest.raises(AdapterError, match=r"a\.lora_A\.weight: holds infinity"), np.errstate(over="ignore"):
        aggregate(FEDAVG, FEDAVG.params(), tmp_path / "large", None, updates, tmp_path, facts=FIRST, lora=LORA)
