"""The adapter after a round of one client has the bytes that a coordinator gives it."""

from pathlib import Path

import numpy as np
import pytest

from agent.report.next_adapter import write_next
from coordinator.engine.aggregation.aggregate import aggregate
from coordinator.engine.aggregation.files import ClientUpdate
from shared import algorithms
from shared.adapters.files import AdapterError, AdapterFile, write_adapter
from shared.algorithms import RoundFacts
from shared.campaign.spec import LoraSection
from shared.digest import sha256_file

A, B = "layer.lora_A.weight", "layer.lora_B.weight"
SHAPES = {A: (4, 6), B: (5, 4)}


def written(path: Path, **tensors: np.ndarray) -> Path:
    write_adapter(path, {"layer.lora_A.weight": tensors["a"], "layer.lora_B.weight": tensors["b"]})
    return path


def drawn(path: Path, seed: int, rank: int = 4) -> Path:
    rng = np.random.default_rng(seed)
    return written(
        path,
        a=rng.standard_normal((rank, 6), dtype=np.float32) * 1e-3,
        b=rng.standard_normal((5, rank), dtype=np.float32) * 1e3,
    )


def test_it_is_what_the_coordinators_fedavg_makes_of_one_client(tmp_path: Path) -> None:
    lora = LoraSection(rank=4)
    x, delta = drawn(tmp_path / "x", 1), drawn(tmp_path / "delta", 2)
    sha256 = write_next(x, delta, lora, tmp_path / "own")
    fedavg = algorithms.find("fedavg")
    (tmp_path / "out").mkdir()
    made = aggregate(
        fedavg,
        fedavg.params(),
        x,
        None,
        [ClientUpdate(0, 1.0, 1.0, delta, None)],
        tmp_path / "out",
        facts=RoundFacts(1, 0, 1.0, first=True),
        lora=lora,
    )
    assert sha256 == sha256_file(tmp_path / "own") == sha256_file(made.adapter)
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600


def test_an_update_of_a_smaller_rank_changes_the_first_components(tmp_path: Path) -> None:
    x, delta = drawn(tmp_path / "x", 1), drawn(tmp_path / "delta", 2, rank=2)
    write_next(x, delta, LoraSection(rank=4), tmp_path / "own")
    with AdapterFile(tmp_path / "own") as own, AdapterFile(x) as before, AdapterFile(delta) as change:
        np.testing.assert_array_equal(own.read(A)[:2], before.read(A)[:2] + change.read(A))
        np.testing.assert_array_equal(own.read(A)[2:], before.read(A)[2:])
        np.testing.assert_array_equal(own.read(B)[:, :2], before.read(B)[:, :2] + change.read(B))
        np.testing.assert_array_equal(own.read(B)[:, 2:], before.read(B)[:, 2:])


def test_frozen_factors_stay(tmp_path: Path) -> None:
    x = drawn(tmp_path / "x", 1)
    write_adapter(tmp_path / "delta", {B: np.ones((5, 4), np.float32)})
    write_next(x, tmp_path / "delta", LoraSection(rank=4, freeze_a=True), tmp_path / "own")
    with AdapterFile(tmp_path / "own") as own, AdapterFile(x) as before:
        np.testing.assert_array_equal(own.read(A), before.read(A))
        np.testing.assert_array_equal(own.read(B), before.read(B) + 1)


def test_a_sum_that_is_not_finite_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    largest = np.finfo(np.float32).max
    x = written(tmp_path / "x", a=np.full(SHAPES[A], largest), b=np.zeros(SHAPES[B], np.float32))
    delta = written(tmp_path / "delta", a=np.full(SHAPES[A], largest), b=np.zeros(SHAPES[B], np.float32))
    with pytest.raises(AdapterError), np.errstate(over="ignore"):
        write_next(x, delta, LoraSection(rank=4), tmp_path / "own")
    assert not (tmp_path / "own").exists()
