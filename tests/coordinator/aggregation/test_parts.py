"""Server halves that see more than one tensor: whole modules, or whole updates by a first pass."""

import re
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from coordinator.engine.aggregation.aggregate import Aggregated, aggregate
from coordinator.engine.aggregation.files import ClientUpdate
from coordinator.errors import AlgorithmFailed
from shared.adapters.files import AdapterError, AdapterFile, write_adapter
from shared.adapters.lora import factors
from shared.algorithms import Algorithm, AlgorithmParams, ClientHalf, Part, RoundFacts, ServerHalf, Updates
from shared.algorithms.base import Array
from shared.campaign.spec import LoraSection
from tests.support.distributions import load_example

SHAPES = {"q.lora_A.weight": (4, 30), "q.lora_B.weight": (20, 4), "v.lora_A.weight": (4, 7), "v.lora_B.weight": (9, 4)}
LORA = LoraSection(rank=4, alpha=6)
FACTS = RoundFacts(number=3, seed=7, scale=LORA.scale, first=True)
Tensors = dict[str, np.ndarray]
Lie = Callable[[np.ndarray], np.ndarray]

KRUM, SVD = load_example("krum"), load_example("svd")


class Params(AlgorithmParams):
    """No parameters."""


def algorithm(server: type[ServerHalf[Params]]) -> Algorithm:
    return Algorithm("outside", "", Params, server, type("Client", (ClientHalf,), {}))


def drawn(seed: int, scale: float = 1.0) -> Tensors:
    noise = np.random.default_rng(seed)
    return {name: (scale * noise.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}


def close_round(folder: Path, algorithm: Algorithm, x: Tensors, deltas: list[Tensors]) -> Aggregated:
    write_adapter(folder / "x", x)
    updates = []
    for k, delta in enumerate(deltas):
        write_adapter(folder / f"delta-{k}", delta)
        updates.append(ClientUpdate(k, (k + 1) / 15, 0, folder / f"delta-{k}", None))
    return aggregate(algorithm, algorithm.params(), folder / "x", None, updates, folder, facts=FACTS, lora=LORA)


def read(path: Path) -> Tensors:
    with AdapterFile(path) as file:
        return {name: file.read(name).copy() for name in file.tensors}


@pytest.mark.parametrize("liar", [0, 2, 4])
@pytest.mark.parametrize("lie", [lambda d: -100 * d, lambda d: 0 * d + 3e38, lambda d: 0 * d])
def test_krum_passes_over_a_liar(tmp_path: Path, liar: int, lie: Lie) -> None:
    x, mean = drawn(0), drawn(1)
    deltas = [{name: mean[name] + values for name, values in drawn(10 + k, 0.01).items()} for k in range(5)]
    deltas[liar] = {name: np.float32(lie(values)) for name, values in deltas[liar].items()}
    after = read(close_round(tmp_path, KRUM, x, deltas).adapter)
    honest = [k for k in range(5) if k != liar]
    equal = [all(np.array_equal(after[name], x[name] + deltas[k][name]) for name in SHAPES) for k in honest]
    assert sum(equal) == 1, "the whole update of one honest client"


def test_krum_refuses_a_round_with_too_few_updates(tmp_path: Path) -> None:
    with pytest.raises(AlgorithmFailed, match="Krum with f = 1 needs 5 updates"):
        close_round(tmp_path, KRUM, drawn(0), [drawn(1 + k) for k in range(4)])


def test_the_svd_equals_the_dense_truncation(tmp_path: Path) -> None:
    x, deltas = drawn(0), [drawn(1 + k, 0.3) for k in range(5)]
    after = read(close_round(tmp_path, SVD, x, deltas).adapter)
    for a, b in factors(SHAPES):
        ends = [(x[b].astype(float) + delta[b], x[a].astype(float) + delta[a]) for delta in deltas]
        dense = sum((k + 1) / 15 * (end_b @ end_a) for k, (end_b, end_a) in enumerate(ends))
        u, s, v = np.linalg.svd(dense)
        best = u[:, :4] * s[:4] @ v[:4]
        found = after[b].astype(float) @ after[a]
        assert np.linalg.norm(found - best) <= 1e-5 * np.linalg.norm(best)


def test_the_server_half_is_told_the_round_and_measures_all_parts_first(tmp_path: Path) -> None:
    seen: list[tuple[str, tuple[str, ...], RoundFacts]] = []

    class Recording(SVD.server):  # type: ignore[name-defined,misc]
        def measure(self, part: Part, facts: RoundFacts) -> None:
            seen.append(("measure", part.names, facts))

        def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:
            seen.append(("combine", part.names, facts))
            return part.x

    made = close_round(tmp_path, algorithm(Recording), drawn(0), [drawn(1)])
    q, v = ("q.lora_A.weight", "q.lora_B.weight"), ("v.lora_A.weight", "v.lora_B.weight")
    assert seen == [(step, names, FACTS) for step in ("measure", "combine") for names in (q, v)]
    assert made.update_norm == 0


class Twice(ServerHalf[Params]):
    """Has a tensor in two parts."""

    def parts(self, names: Sequence[str]) -> Sequence[Sequence[str]]:
        return [*pairwise(names)]


class Silent(ServerHalf[Params]):
    """Returns nothing."""

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:
        return {}


class Curious(ServerHalf[Params]):
    """Returns a tensor that nobody asked for."""

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:
        return {**part.x, "x": np.zeros(1, dtype=np.float32)}


class Writing(ServerHalf[Params]):
    """Writes into the global adapter."""

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:
        for x in part.x.values():
            x += 1
        return part.x


class Spoiling(ServerHalf[Params]):
    """Leaves a state that is not a number."""

    state = ("m",)

    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        state["m"] = state["m"] * np.float32("nan")
        return x


class Wrong(ServerHalf[Params]):
    """Returns tensors of another shape."""

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:
        return {name: x.T for name, x in part.x.items()}


class Large(ServerHalf[Params]):
    """Returns float64 values that float32 cannot hold."""

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:
        return {name: x + np.float64(1e300) for name, x in part.x.items()}  # type: ignore[misc]


class Unwritten(ServerHalf[Params]):
    """Defines nothing."""


@pytest.mark.parametrize(
    ("server", "error", "says"),
    [
        (Twice, AlgorithmFailed, "the algorithm outside failed: q.lora_B.weight: the algorithm has it in 2 parts"),
        (Silent, AlgorithmFailed, "it returned [] for the part ['q.lora_A.weight']"),
        (Curious, AlgorithmFailed, "it returned ['q.lora_A.weight', 'x'] for the part ['q.lora_A.weight']"),
        (Writing, AlgorithmFailed, "the algorithm outside failed: ValueError; the log has the reason"),
        (Spoiling, AdapterError, "m/q.lora_A.weight: holds NaN"),
        (Wrong, AdapterError, "q.lora_A.weight: shape"),
        (Large, AdapterError, "q.lora_A.weight: holds infinity"),
        (Unwritten, AlgorithmFailed, "the algorithm outside failed: NotImplementedError"),
    ],
)
def test_what_a_server_half_gets_wrong_is_an_error(
    tmp_path: Path, server: type[ServerHalf[Params]], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        close_round(tmp_path, algorithm(server), drawn(0), [drawn(1)])


@pytest.mark.parametrize("algorithm", [KRUM, SVD], ids=lambda algorithm: algorithm.name)
def test_memory_is_a_few_of_the_largest_part(tmp_path: Path, algorithm: Algorithm) -> None:
    peaks = []
    for n_modules in (2, 16):
        tensors = {}
        for number in range(n_modules):
            tensors[f"{number}.lora_A.weight"] = np.ones((4, 8_192), dtype=np.float32)
            tensors[f"{number}.lora_B.weight"] = np.ones((8_192, 4), dtype=np.float32)
        write_adapter(tmp_path / "x", tensors)
        updates = [ClientUpdate(k, 0.2, 0, tmp_path / "x", None) for k in range(5)]
        tracemalloc.start()
        aggregate(algorithm, algorithm.params(), tmp_path / "x", None, updates, tmp_path, facts=FACTS, lora=LORA)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
