"""Updates of several ranks in one round: the SVD against the dense product, and what has no meaning for them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from coordinator.engine.aggregation.aggregate import Aggregated, aggregate
from coordinator.engine.aggregation.files import ClientUpdate
from coordinator.errors import AlgorithmFailed
from shared import algorithms
from shared.adapters.files import AdapterFile, write_adapter
from shared.adapters.lora import factors, shape_at_rank
from shared.algorithms import Algorithm, RoundFacts
from shared.campaign.spec import LoraSection
from tests.support.distributions import load_example

SHAPES = {"q.lora_A.weight": (8, 30), "q.lora_B.weight": (20, 8), "v.lora_A.weight": (8, 9), "v.lora_B.weight": (11, 8)}
LORA = LoraSection(rank=8, alpha=12)
FACTS = RoundFacts(number=3, seed=7, scale=LORA.scale, first=True)
FEDAVG, SVD = algorithms.find("fedavg"), load_example("svd")
Tensors = dict[str, np.ndarray]


def drawn(seed: int, rank: int = 8) -> Tensors:
    noise = np.random.default_rng(seed)
    shapes = {name: shape_at_rank(name, shape, rank) for name, shape in SHAPES.items()}
    return {name: noise.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def close_round(folder: Path, algorithm: Algorithm, x: Tensors, deltas: Sequence[Tensors]) -> Aggregated:
    """Aggregate a round in which client k of K has the weight 2 k / K (K + 1)."""
    write_adapter(folder / "x", x)
    updates, total = [], len(deltas) * (len(deltas) + 1) / 2
    for k, delta in enumerate(deltas):
        write_adapter(folder / f"delta-{k}", delta)
        updates.append(ClientUpdate(k, (k + 1) / total, 0, folder / f"delta-{k}", None))
    options = {"facts": FACTS, "lora": LORA, "measures_gap": True}
    return aggregate(algorithm, algorithm.params(), folder / "x", None, updates, folder, **options)


def read(path: Path) -> Tensors:
    with AdapterFile(path) as file:
        return {name: file.read(name).copy() for name in file.tensors}


def mean_product(a: str, b: str, x: Tensors, deltas: Sequence[Tensors]) -> np.ndarray:
    """Σ p_k B_k A_k in float64; client k starts from the first components of x."""
    total, dense = len(deltas) * (len(deltas) + 1) / 2, np.zeros((x[b].shape[0], x[a].shape[1]))
    for k, delta in enumerate(deltas, 1):
        rank = len(delta[a])
        dense += k / total * ((x[b][:, :rank].astype(float) + delta[b]) @ (x[a][:rank].astype(float) + delta[a]))
    return dense


@pytest.mark.parametrize("ranks", [(8, 8), (4, 8), (8, 1, 4), (4, 4), (2, 3, 3, 1), (4, 4, 4, 4)], ids=str)
def test_the_svd_is_the_best_approximation_of_the_dense_mean_product(tmp_path: Path, ranks: tuple[int, ...]) -> None:
    x, deltas = drawn(0), [drawn(1 + k, rank) for k, rank in enumerate(ranks)]
    after = read(close_round(tmp_path, SVD, x, deltas).adapter)
    for a, b in factors(SHAPES):
        u, s, v = np.linalg.svd(mean_product(a, b, x, deltas))
        for rank in (1, 4, 8):  # the first components, which a client of that rank gets
            best = u[:, :rank] * s[:rank] @ v[:rank]
            found = after[b][:, :rank].astype(float) @ after[a][:rank]
            assert np.linalg.norm(found - best) <= 1e-5 * np.linalg.norm(best)


def test_components_that_no_client_trained_stay_trainable(tmp_path: Path) -> None:
    """With A = 0 and B = 0 both gradients of a component would be zero for good."""
    x = drawn(0)
    after = read(close_round(tmp_path, SVD, x, [drawn(1, 3)]).adapter)
    for a, b in factors(SHAPES):
        np.testing.assert_array_equal(after[a][3:], x[a][3:])
        assert not after[b][:, 3:].any()
        assert np.linalg.norm(after[b][:, :3], axis=0).min() > 0.1


@pytest.mark.parametrize("ranks", [(4, 8), (4, 4)], ids=str)
def test_a_mean_over_several_shapes_is_an_error_that_names_the_tensor(tmp_path: Path, ranks: tuple[int, ...]) -> None:
    says = "q.lora_A.weight: has updates of several shapes, which have no sum ([4, 30], [8, 30])"
    with pytest.raises(AlgorithmFailed, match=re.escape(f"the algorithm fedavg failed: {says}")):
        close_round(tmp_path, FEDAVG, drawn(0), [drawn(1 + k, rank) for k, rank in enumerate(ranks)])


@pytest.mark.parametrize(("ranks", "is_measured"), [((8, 8), True), ((4, 8), False), ((4, 4), False)])
def test_the_factor_gap_is_measured_between_updates_of_the_global_rank_only(
    tmp_path: Path, ranks: tuple[int, ...], is_measured: bool
) -> None:
    made = close_round(tmp_path, SVD, drawn(0), [drawn(1 + k, rank) for k, rank in enumerate(ranks)])
    assert (made.factor_gap is not None) is is_measured
