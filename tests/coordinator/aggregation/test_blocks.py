"""Aggregation by blocks: the bytes of aggregation by parts, whatever the threads and blocks, and what is refused."""

import functools
import json
import re
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.engine.aggregation import blocks
from coordinator.engine.aggregation.aggregate import Aggregated, aggregate
from coordinator.engine.aggregation.files import ClientUpdate
from coordinator.errors import AlgorithmFailed
from shared import algorithms
from shared.adapters import scratch
from shared.adapters.files import NotFinite, slot_name, write_adapter
from shared.algorithms import Algorithm, RoundFacts, ServerHalf, Updates, elementwise, fedavg, scaffold
from shared.algorithms.base import Array
from shared.campaign.spec import LoraSection
from tests.support.distributions import load_example

SEVEN = ["fedadagrad", "fedadam", "fedavg", "fedavgm", "fedprox", "fedyogi", "scaffold"]
SHAPES = {"k.lora_A.weight": (2, 33), "k.lora_B.weight": (25, 2), "q.lora_A.weight": (2, 9), "q.lora_B.weight": (3, 2)}
N_VALUES = sum(rows * columns for rows, columns in SHAPES.values())
FEDAVG = algorithms.find("fedavg")
SCAFFOLD = algorithms.find("scaffold")
Tensors = dict[str, np.ndarray]


def drawn(*seed: int) -> Tensors:
    noise = np.random.default_rng(seed)
    return {name: noise.normal(0, 0.1, shape).astype(np.float32) for name, shape in SHAPES.items()}


def in_slot(slot: str, tensors: Tensors) -> Tensors:
    return {slot_name(slot, name): values for name, values in tensors.items()}


def write_reversed(path: Path, tensors: Tensors) -> None:
    """Another writer's file: tensors in falling order, and metadata."""
    position, header = 0, {"__metadata__": {"format": "pt"}}
    in_order = sorted(tensors.items(), reverse=True)
    for name, values in in_order:
        end = position + values.nbytes
        header[name] = {"dtype": "F32", "shape": [*values.shape], "data_offsets": [position, end]}  # type: ignore[dict-item]
        position = end
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for _, values in in_order))


def updates_of(
    folder: Path, number: int, *, freeze_a: bool = False, write: Callable[[Path, Tensors], object] = write_adapter
) -> list[ClientUpdate]:
    """The updates of three clients in a round."""
    made = []
    for k in range(3):
        delta, extras = (
            {name: values for name, values in drawn(number, k, of).items() if not freeze_a or "lora_B" in name}
            for of in (0, 1)
        )
        write(folder / f"delta-{number}-{k}", delta)
        write(folder / f"extras-{number}-{k}", in_slot("delta_c", extras))
        paths = folder / f"delta-{number}-{k}", folder / f"extras-{number}-{k}"
        made.append(ClientUpdate(k, (k + 1) / 6, (k + 1) / 10, *paths))
    return made


def two_rounds(
    folder: Path, algorithm: Algorithm, out: str, *, n_threads: int = 1, **options: Any
) -> list[bytes | None]:
    """The bytes of adapter, state and broadcast after each of two rounds; a client joined before the second."""
    write_adapter(folder / "x", drawn(0))
    lora = LoraSection(rank=2, alpha=3, freeze_a=options.get("freeze_a", False))
    parent, state, found = folder / "x", None, []
    for number in (1, 2):
        (into := folder / f"{out}-{number}").mkdir()
        made: Aggregated = aggregate(
            algorithm,
            algorithm.params(),
            parent,
            state,
            updates_of(folder, number, **options),
            into,
            facts=RoundFacts(number, seed=0, scale=lora.scale, first=number == 1),
            lora=lora,
            membership_scale=1 if number == 1 else 0.7,
            n_threads=n_threads,
        )
        parent, state = made.adapter, made.state
        found += [path.read_bytes() if path else None for path in (made.adapter, made.state, made.broadcast)]
    return found


def by_parts(algorithm: Algorithm) -> Algorithm:
    """The same algorithm, not declared elementwise."""

    def aggregate(self: Any, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        found: Array = algorithm.server.aggregate(self, x, updates, state, first=first)
        return found

    return replace(algorithm, server=type("Server", (algorithm.server,), {"aggregate": aggregate}))


@pytest.mark.parametrize("freeze_a", [False, True], ids=["all", "frozen A"])
@pytest.mark.parametrize("algorithm", [*SEVEN, "trimmed_mean"])
def test_the_bytes_are_those_of_whole_tensors_for_any_threads_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, freeze_a: bool
) -> None:
    found = load_example(algorithm) if algorithm == "trimmed_mean" else algorithms.find(algorithm)
    assert found.is_elementwise
    expected = two_rounds(tmp_path, by_parts(found), "parts", freeze_a=freeze_a)
    for n_threads, n_values in ((1, 1), (1, 7), (2, 16), (5, 10), (2, N_VALUES), (5, 1 << 16)):
        monkeypatch.setattr(blocks, "BLOCK_VALUES", n_values)
        made = two_rounds(tmp_path, found, f"{n_threads}-{n_values}", freeze_a=freeze_a, n_threads=n_threads)
        assert made == expected, (n_threads, n_values)


def test_an_update_in_another_order_with_metadata_counts_as_the_same(tmp_path: Path) -> None:
    expected = two_rounds(tmp_path, SCAFFOLD, "canonical")
    assert two_rounds(tmp_path, SCAFFOLD, "reversed", write=write_reversed) == expected


# --- values that are not finite


@pytest.mark.parametrize("n_threads", [1, 5])
@pytest.mark.parametrize(("value", "word"), [("nan", "NaN"), ("inf", "infinity"), ("-inf", "infinity")])
@pytest.mark.parametrize(("slot", "algorithm"), [("delta", FEDAVG), ("delta", SCAFFOLD), ("delta_c", SCAFFOLD)])
def test_an_update_that_is_not_finite_is_named_wherever_the_value_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slot: str,
    algorithm: Algorithm,
    value: str,
    word: str,
    n_threads: int,
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 20)
    updates = updates_of(tmp_path, 1)
    write_adapter(tmp_path / "x", drawn(0))
    facts, lora = RoundFacts(1, seed=0, scale=1.5, first=True), LoraSection(rank=2)
    for name, shape in SHAPES.items():
        for place in (0, shape[0] * shape[1] // 2, -1):
            spoilt = drawn(1, 2, int(slot != "delta"))
            spoilt[name].reshape(-1)[place] = value
            named = spoilt if slot == "delta" else in_slot(slot, spoilt)
            write_adapter(tmp_path / "spoilt", named)
            bad = replace(updates[2], **{"delta" if slot == "delta" else "extras": tmp_path / "spoilt"})
            tensor = name if slot == "delta" else slot_name(slot, name)
            says = f"{tensor}: holds {word} in the update of client 2"
            with pytest.raises(NotFinite, match=f"^{re.escape(says)}$"):
                aggregate(
                    algorithm,
                    algorithm.params(),
                    tmp_path / "x",
                    None,
                    [bad, *updates[:2]],
                    tmp_path,
                    facts=facts,
                    lora=lora,
                    n_threads=n_threads,
                )


def test_opposite_infinities_do_not_cancel(tmp_path: Path) -> None:
    write_adapter(tmp_path / "x", drawn(0))
    for k, value in enumerate((np.inf, -np.inf)):
        write_adapter(tmp_path / f"delta-{k}", {name: values + np.float32(value) for name, values in drawn(1).items()})
    updates = [ClientUpdate(k, 0.5, 0.5, tmp_path / f"delta-{k}", None) for k in range(2)]
    with pytest.raises(NotFinite, match=r"k\.lora_A\.weight: holds infinity in the update of client 0"):
        close_round(tmp_path, FEDAVG, updates)


# --- what a server half gets wrong, and what is cut


def close_round(folder: Path, algorithm: Algorithm, updates: list[ClientUpdate], n_threads: int = 1) -> Aggregated:
    return aggregate(
        algorithm,
        algorithm.params(),
        folder / "x",
        None,
        updates,
        folder,
        facts=RoundFacts(1, seed=0, scale=1.5, first=True),
        lora=LoraSection(rank=2),
        n_threads=n_threads,
    )


class Writing(fedavg.Server):
    """Writes into the global adapter."""

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        x += 1
        return x


class Short(fedavg.Server):
    """Returns another shape."""

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        return x[1:]


class Large(fedavg.Server):
    """Returns float64 values that float32 cannot hold."""

    @elementwise
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        return x.astype(np.float64) + 1e300  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("server", "error", "says"),
    [
        (Writing, AlgorithmFailed, "the algorithm fedavg failed: ValueError; the log has the reason"),
        (Short, AlgorithmFailed, "it returned the shape [19] for a block of [20]"),
        (Large, NotFinite, "k.lora_A.weight: holds infinity"),
    ],
)
@pytest.mark.parametrize("n_threads", [1, 5])
def test_what_a_server_half_gets_wrong_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: type[ServerHalf[Any]],
    error: type[Exception],
    says: str,
    n_threads: int,
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 20)
    write_adapter(tmp_path / "x", drawn(0))
    with pytest.raises(error, match=re.escape(says)):
        close_round(tmp_path, replace(FEDAVG, server=server), updates_of(tmp_path, 1), n_threads)


class Overriding(fedavg.Server):
    """An aggregate of its own, which is not declared."""

    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        return super().aggregate(x, updates, state, first=first)


class Wrapping(fedavg.Server):
    """An aggregate with all attributes of the declared one."""

    @functools.wraps(fedavg.Server.aggregate)
    def aggregate(self, *given: Any, **named: Any) -> Array:
        return super().aggregate(*given, **named)


class Dividing(fedavg.Server):
    """Parts of its own."""

    def parts(self, names: Any) -> Any:
        return [tuple(names)]


class Shaping(scaffold.Server):
    """State of another shape."""

    def slot_shape(self, slot: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return ()


class Inheriting(fedavg.Server):
    """FedAvg's aggregate."""


@pytest.mark.parametrize(
    ("server", "is_cut"),
    [(Overriding, False), (Wrapping, False), (Dividing, False), (Shaping, False), (Inheriting, True)],
)
def test_only_a_declared_method_of_a_server_half_that_sees_nothing_else_gets_blocks(
    server: type[ServerHalf[Any]], is_cut: bool
) -> None:
    assert replace(FEDAVG, server=server).is_elementwise is is_cut


# --- memory


@pytest.mark.parametrize("name", ["fedavg", "fedadam"])
def test_memory_is_a_few_blocks_a_thread_for_any_number_and_size_of_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 1 << 12)
    monkeypatch.setattr(scratch, "BLOCK_VALUES", 1 << 12)
    monkeypatch.setattr(blocks, "_KEPT_BYTES", 0)
    peaks = []
    for n_modules, n_clients in ((1, 1), (2, 2), (2, 64), (32, 2)):
        tensors = {f"{number}.lora_A.weight": np.ones((8, 4_096), dtype=np.float32) for number in range(n_modules)}
        write_adapter(tmp_path / "x", tensors)
        updates = [ClientUpdate(k, 1 / n_clients, 0, tmp_path / "x", None) for k in range(n_clients)]
        tracemalloc.start()
        close_round(tmp_path, algorithms.find(name), updates, n_threads=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    block, open_file = 4 * (1 << 12), 4_000
    peaks = peaks[1:]  # the first one loads what a process loads once
    assert peaks[0] < 2 * 13 * block
    assert peaks[1] < peaks[0] + 62 * open_file
    assert peaks[2] < peaks[0] + 16 * block  # of 32 × 8 further blocks; each tensor has a name, a shape, an offset
