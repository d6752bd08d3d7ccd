"""The product of the aggregated factors, compared with the mean of the clients' products: equal if A is frozen."""

from pathlib import Path

import numpy as np
import pytest

from coordinator.engine.aggregation.aggregate import Aggregated, aggregate
from coordinator.engine.aggregation.factor_gap import FactorGap
from coordinator.engine.aggregation.files import ClientUpdate
from shared import algorithms
from shared.adapters.files import AdapterFile, write_adapter
from shared.algorithms import RoundFacts
from shared.campaign.spec import LoraSection

SHAPES = {"q.lora_A.weight": (4, 30), "q.lora_B.weight": (20, 4), "v.lora_A.weight": (4, 6), "v.lora_B.weight": (9, 4)}
WEIGHTS = [0.5, 0.3, 0.2]
SCALE = 1.5
Tensors = dict[str, np.ndarray]


def drawn(seed: int, size: float = 1.0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, size, shape).astype(np.float32) for name, shape in SHAPES.items()}


def products(tensors: Tensors) -> np.ndarray:
    """α/r B A of all modules, flat, in float64."""
    wide = {name: values.astype(np.float64) for name, values in tensors.items()}
    found = [wide[name.replace("lora_A", "lora_B")] @ wide[name] for name in wide if "lora_A" in name]
    return SCALE * np.concatenate([product.reshape(-1) for product in found])


def mean_of_products(x: Tensors, deltas: list[Tensors], weights: list[float]) -> np.ndarray:
    ends = [{name: values.astype(np.float64) + delta.get(name, 0) for name, values in x.items()} for delta in deltas]
    return np.asarray(sum(p * products(end) for p, end in zip(weights, ends, strict=True)))


def close_round(
    folder: Path, x: Tensors, deltas: list[Tensors], weights: list[float], *, freeze_a: bool
) -> tuple[Aggregated, Tensors]:
    """Aggregate a round of FedAvg. Returns the result and the new adapter's tensors."""
    algorithm = algorithms.find("fedavg")
    write_adapter(folder / "x", x)
    updates = []
    for k, (p, delta) in enumerate(zip(weights, deltas, strict=True)):
        write_adapter(folder / f"delta-{k}", delta)
        updates.append(ClientUpdate(k, p, p, folder / f"delta-{k}", None))
    lora = LoraSection(rank=4, alpha=4 * SCALE, freeze_a=freeze_a)
    params, x_file = algorithm.params(), folder / "x"
    facts = RoundFacts(number=1, seed=0, scale=SCALE, first=True)
    made = aggregate(algorithm, params, x_file, None, updates, folder, facts=facts, lora=lora, measures_gap=True)
    assert made.factor_gap is not None
    with AdapterFile(made.adapter) as file:
        return made, {name: file.read(name).copy() for name in file.tensors}


def test_with_a_frozen_the_products_are_equal_and_the_gap_is_zero(tmp_path: Path) -> None:
    x = drawn(0)
    deltas = [{name: values for name, values in drawn(1 + k, 0.1).items() if "lora_B" in name} for k in range(3)]
    made, after = close_round(tmp_path, x, deltas, WEIGHTS, freeze_a=True)
    mean = mean_of_products(x, deltas, WEIGHTS)
    np.testing.assert_allclose(products(after), mean, rtol=0, atol=3e-7 * float(np.abs(mean).max()))
    assert made.factor_gap == FactorGap(0.0, 0.0)
    for name, values in x.items():
        assert np.array_equal(after[name], values) == ("lora_A" in name)


@pytest.mark.parametrize("size", [0.1, 1.0])
def test_without_freezing_the_products_differ_by_the_measured_gap(tmp_path: Path, size: float) -> None:
    x, deltas = drawn(0), [drawn(1 + k, size) for k in range(3)]
    made, after = close_round(tmp_path, x, deltas, WEIGHTS, freeze_a=False)
    apart = np.linalg.norm(mean_of_products(x, deltas, WEIGHTS) - products(after))
    assert apart > size**2
    assert made.factor_gap.gap == pytest.approx(apart, rel=1e-5)


def test_clients_that_agree_leave_no_gap_and_one_client_leaves_none(tmp_path: Path) -> None:
    for deltas, weights in (([drawn(1)] * 3, [0.2, 0.3, 0.5]), ([drawn(1)], [1.0])):
        made, _ = close_round(tmp_path, drawn(0), deltas, weights, freeze_a=False)
        assert made.factor_gap.gap == 0.0
        assert made.factor_gap.moved > 1


def test_one_number_by_hand(tmp_path: Path) -> None:
    """A = 2, B = 0. Clients go to (A, B) = (3, 1) and (1, −1): mean(BA) = 1, mean(B) mean(A) = 0, and α/r = 1.5."""

    def tensors(a: float, b: float) -> Tensors:
        return {"q.lora_A.weight": np.float32([[a]]), "q.lora_B.weight": np.float32([[b]])}

    made, after = close_round(tmp_path, tensors(2, 0), [tensors(1, 1), tensors(-1, -1)], [0.5, 0.5], freeze_a=False)
    assert products(after).tolist() == [0.0]
    assert (made.factor_gap.gap, made.factor_gap.moved, made.factor_gap.relative) == (1.5, 1.5, 1.0)
