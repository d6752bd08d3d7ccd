"""The error of averaging A and B separately, compared with float64; it is zero in campaigns that freeze A."""

import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.engine.aggregation import factor_gap as module
from coordinator.engine.aggregation.factor_gap import FactorGap, factor_gap
from shared.adapters.files import AdapterFile, write_adapter
from shared.adapters.updates import UpdateFile
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, campaign_body, safetensors_bytes, stretched

Enroll = Callable[..., ScriptedAgent]
Tensors = dict[str, np.ndarray]

A, B = "m.q.lora_A.weight", "m.q.lora_B.weight"
SHAPES = {A: (2, 8), B: (64, 2)}


def drawn(seed: int, shapes: dict[str, tuple[int, ...]], scale: float = 1.0) -> Tensors:
    noise = np.random.default_rng(seed)
    return {name: (scale * noise.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def as_bytes(folder: Path, tensors: Tensors) -> bytes:
    write_adapter(folder / "adapter", tensors)
    return (folder / "adapter").read_bytes()


def measured(folder: Path, parent: Tensors, deltas: list[Tensors], p: list[float], scale: float) -> FactorGap:
    with ExitStack() as stack:
        files = []
        for number, tensors in enumerate([parent, *deltas]):
            write_adapter(folder / f"{number}", tensors)
            files.append(stack.enter_context(UpdateFile(folder / f"{number}")))
        return factor_gap(files[0], list(zip(p, files[1:], strict=True)), scale)


def directly(parent: Tensors, deltas: list[Tensors], p: list[float], scale: float) -> tuple[float, float]:
    """‖α/r (mean(BA) − mean(B) mean(A))‖ and ‖α/r (mean(BA) − BA)‖ over all modules, in float64."""
    squared = [0.0, 0.0]
    for a_name in (name for name in parent if ".lora_A." in name):
        b_name = a_name.replace("lora_A", "lora_B")
        a, b = parent[a_name].astype(np.float64), parent[b_name].astype(np.float64)
        ends = [(a + delta.get(a_name, 0), b + delta.get(b_name, 0)) for delta in deltas]
        product = sum(weight * (b_k @ a_k) for weight, (a_k, b_k) in zip(p, ends, strict=True))
        mean_a = sum(weight * a_k for weight, (a_k, _) in zip(p, ends, strict=True))
        mean_b = sum(weight * b_k for weight, (_, b_k) in zip(p, ends, strict=True))
        for place, matrix in enumerate((product - mean_b @ mean_a, product - b @ a)):
            squared[place] += float((scale**2 * matrix**2).sum())
    return squared[0] ** 0.5, squared[1] ** 0.5


@pytest.mark.parametrize("block_bytes", [module._BLOCK_BYTES, 3000, 1000, 1])
def test_the_gap_equals_a_direct_computation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    """Three modules of different sizes; blocks of a whole module, of some of its columns, and of one row."""
    monkeypatch.setattr(module, "_BLOCK_BYTES", block_bytes)
    shapes = {
        "m.q.lora_A.weight": (3, 40),
        "m.q.lora_B.weight": (57, 3),
        "m.v.lora_A.weight": (3, 11),
        "m.v.lora_B.weight": (101, 3),
        "z.lora_A.weight": (3, 300),
        "z.lora_B.weight": (2, 3),
    }
    parent, p = drawn(0, shapes), [0.05, 0.15, 0.3, 0.5]
    deltas = [drawn(seed, shapes, 0.1) for seed in range(1, 5)]
    found = measured(tmp_path, parent, deltas, p, 16 / 3)
    gap, moved = directly(parent, deltas, p, 16 / 3)
    assert found.gap == pytest.approx(gap, rel=1e-6)
    assert found.moved == pytest.approx(moved, rel=1e-6)
    assert found.relative == pytest.approx(gap / moved, rel=1e-6)


def covariance(parent: Tensors, deltas: list[Tensors], p: list[float]) -> float:
    """‖Σ p_k (B_k − mean(B)) (A_k − mean(A))‖ in dense float64: precise even if the gap is small beside the factors."""
    apart = []
    for name in (A, B):
        wide = [delta[name].astype(np.float64) for delta in deltas]
        mean = sum(weight * values for weight, values in zip(p, wide, strict=True))
        apart.append([values - mean for values in wide])
    return float(np.linalg.norm(sum(weight * b @ a for weight, a, b in zip(p, *apart, strict=True))))


def rank_one(seed: int) -> Tensors:
    tensors = drawn(seed, SHAPES)
    tensors[A][1], tensors[B][:, 1] = tensors[A][0], tensors[B][:, 0]
    return tensors


def almost_cancelling(size: float) -> list[Tensors]:
    """Three clients whose products cancel except for a part of relative size *size*: a, −a, 0 times b, b, −2 b."""
    one, rest = drawn(1, SHAPES), drawn(2, SHAPES, size)
    return [
        {A: sign * one[A] + rest[A] * (k == 2), B: times * one[B]}
        for k, (sign, times) in enumerate([(1, 1), (-1, 1), (0, -2)])
    ]


@pytest.mark.parametrize(
    "deltas",
    [
        *(pytest.param([drawn(k, SHAPES, size) for k in range(3)], id=f"{size:g}") for size in (1, 1e30, 1e-30, 1e-42)),
        pytest.param(
            [{A: drawn(k, SHAPES, 1e30)[A], B: drawn(k, SHAPES, 1e-30)[B]} for k in range(3)], id="A 1e30, B 1e-30"
        ),
        pytest.param([rank_one(k) for k in range(3)], id="rank one"),
        pytest.param([rank_one(1), rank_one(1), rank_one(2)], id="two are equal"),
        *(pytest.param(almost_cancelling(size), id=f"cancelling to {size:g}") for size in (1e-2, 1e-4, 1e-6)),
        pytest.param([drawn(k, SHAPES) for k in range(40)], id="more clients than the module is wide"),
    ],
)
def test_the_gap_is_the_dense_value_whatever_the_factors(tmp_path: Path, deltas: list[Tensors]) -> None:
    parent, p = drawn(0, SHAPES), [1 / len(deltas)] * len(deltas)
    expected = covariance(parent, deltas, p)
    assert expected > 0
    assert measured(tmp_path, parent, deltas, p, 1.0).gap == pytest.approx(expected, rel=1e-6)


def test_products_that_cancel_leave_no_gap(tmp_path: Path) -> None:
    deltas = almost_cancelling(0.0)
    single = np.linalg.norm(deltas[0][B] @ deltas[0][A])
    assert measured(tmp_path, drawn(0, SHAPES), deltas, [1 / 3] * 3, 1.0).gap < 1e-15 * single


def test_without_one_factor_or_without_differences_the_gap_is_exactly_zero(tmp_path: Path) -> None:
    parent, p = drawn(0, SHAPES), [0.25, 0.75]
    frozen = [{B: tensors[B]} for tensors in (drawn(1, SHAPES), drawn(2, SHAPES))]
    found = measured(tmp_path, parent, frozen, p, 8.0)
    assert found == FactorGap(0.0, 0.0), "nothing is measured if one factor is frozen"
    still: list[Tensors] = [{name: 0 * values for name, values in parent.items()}] * 2
    assert measured(tmp_path, parent, still, p, 8.0) == FactorGap(0.0, 0.0)
    assert FactorGap(0.0, 0.0).relative == 0.0


def test_memory_does_not_grow_with_the_number_of_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1 << 18)
    shapes = {A: (4, 65536), B: (65536, 4)}
    write_adapter(tmp_path / "file", drawn(0, shapes))
    peaks = []
    with UpdateFile(tmp_path / "file") as file:
        for n_clients in (2, 32):
            tracemalloc.start()
            factor_gap(file, [(1 / n_clients, file)] * n_clients, 1.0)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert max(peaks) < 8 * (1 << 18), "a few blocks; not the clients' tensors of 1 MB, nor the product of 17 GB"


# --- campaigns


def untrained() -> Tensors:
    """Adapter 0, whose B is zero."""
    return {**drawn(0, SHAPES), B: np.zeros(SHAPES[B], dtype=np.float32)}


def begin(operator: Operator, agents: list[ScriptedAgent], zero: bytes, **changes: Any) -> str:
    campaign_id: str = operator.post("/v1/campaigns", campaign_body(**changes))["id"]
    for agent, n_train in zip(agents, (10, 30), strict=True):
        agent.prepare(n_train=n_train)
    agents[0].init(zero)
    return campaign_id


def metrics(operator: Operator, campaign_id: str, name: str) -> list[float]:
    return [row["value"] for row in operator.items(f"/v1/campaigns/{campaign_id}/metrics", name=name)]


def adapter(operator: Operator, campaign_id: str, number: int, folder: Path) -> Tensors:
    row = operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}")
    return tensors_of(operator.http.get(f"/v1/blobs/{row['blob']['sha256']}").content, folder)


def tensors_of(data: bytes, folder: Path) -> Tensors:
    (folder / "read").write_bytes(data)
    with AdapterFile(folder / "read") as file:
        return {name: file.read(name).copy() for name in file.tensors}


@pytest.mark.usefixtures("either_coordinator")
def test_every_evaluated_round_records_its_gap(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll("ada"), enroll("bob")]
    zero = untrained()
    campaign = {"rounds": 3, "lora": {"rank": 2, "alpha": 6}, "evaluation": {"every": 2}}
    campaign_id = begin(operator, agents, as_bytes(tmp_path, zero), **campaign)
    deltas = [drawn(1, SHAPES, 0.1), drawn(2, SHAPES, 0.1)]
    for _ in range(3):
        for agent, delta in zip(agents, deltas, strict=True):
            agent.train(as_bytes(tmp_path, delta))
    operator.wait_for(campaign_id, "completed")
    parents = [adapter(operator, campaign_id, number, tmp_path) for number in (1, 2)]
    expected = [directly(parent, deltas, [0.25, 0.75], 3.0) for parent in parents]
    assert metrics(operator, campaign_id, "factor_gap") == pytest.approx([gap for gap, _ in expected], rel=1e-6)
    relative = [gap / moved for gap, moved in expected]
    assert metrics(operator, campaign_id, "factor_gap_relative") == pytest.approx(relative, rel=1e-6)
    assert min(relative) > 0


def test_the_last_round_of_an_early_end_records_its_gap_too(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = ada, bob = [enroll("ada"), enroll("bob")]
    campaign = {"rounds": 9, "lora": {"rank": 2}, "evaluation": {"every": 4}, "selection": {"minimum": 1}}
    campaign_id = begin(operator, agents, as_bytes(tmp_path, untrained()), **campaign)
    for seed, agent in enumerate((ada, bob, ada), start=1):
        agent.train(as_bytes(tmp_path, drawn(seed, SHAPES)))
    operator.post(f"/v1/campaigns/{campaign_id}/finish")
    detail = operator.wait_for(campaign_id, "completed")
    assert detail["final_adapter"] == 2
    assert len(metrics(operator, campaign_id, "factor_gap")) == 1


@pytest.mark.usefixtures("either_coordinator")
def test_the_gap_of_huge_updates_is_a_number_too(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    """The products of finite factors overflow float32; their norm in float64 does not."""
    agents = [enroll("ada"), enroll("bob")]
    zero, deltas = untrained(), [drawn(1, SHAPES, 1e30), drawn(2, SHAPES, 1e30)]
    campaign_id = begin(
        operator, agents, as_bytes(tmp_path, zero), lora={"rank": 2, "alpha": 2}, evaluation={"every": 1}
    )
    for agent, delta in zip(agents, deltas, strict=True):
        agent.train(as_bytes(tmp_path, delta))
    operator.wait_for(campaign_id, "completed")
    expected, _ = directly(zero, deltas, [0.25, 0.75], 1.0)
    assert expected > 1e60
    assert metrics(operator, campaign_id, "factor_gap") == [pytest.approx(expected, rel=1e-6)]


@pytest.mark.deep
@pytest.mark.usefixtures("either_coordinator")
def test_a_frozen_factor_neither_travels_nor_changes(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = ada, bob = [enroll("ada"), enroll("bob")]
    zero = untrained()
    lora = {"rank": 2, "freeze_a": True}
    campaign = {"rounds": 3, "lora": lora, "algorithm": {"name": "scaffold"}, "evaluation": {"every": 1}}
    campaign_id = begin(operator, agents, as_bytes(tmp_path, zero), **campaign)
    only_b = {B: SHAPES[B]}
    lease = ada.lease("train")
    whole, part = as_bytes(tmp_path, drawn(1, SHAPES)), as_bytes(tmp_path, drawn(1, only_b))
    refused = ada.start_upload(lease, "delta", whole)
    assert (refused.status_code, problem(refused).kind) == (413, "too-large")
    assert problem(refused).detail == f"{len(whole)} bytes are too many; at most {len(part)} are allowed here"
    extras = as_bytes(tmp_path, {f"delta_c/{B}": np.ones(SHAPES[B], dtype=np.float32)})
    with_a = as_bytes(tmp_path, {f"delta_c/{name}": np.ones(shape, np.float32) for name, shape in SHAPES.items()})
    assert ada.start_upload(lease, "extras", with_a).status_code == 413
    # in half precision it fits into the size of an update
    half = safetensors_bytes(
        {name: ("F16", SHAPES[name], drawn(1, SHAPES)[name].astype("<f2").tobytes()) for name in (A, B)}
    )
    half = stretched(half, len(part))
    reply = ada.result(lease, ada.train_result(ada.upload(lease, "delta", half), ada.upload(lease, "extras", extras)))
    assert (reply.status_code, problem(reply).kind) == (422, "bad-update")
    assert problem(reply).detail.startswith(f"{A}: not part of")
    bob.train(as_bytes(tmp_path, drawn(2, only_b)), extras=extras)
    operator.wait_for(campaign_id, "paused")  # one update of at least two
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    ada.train(part, extras=extras)
    for number in (2, 3):
        for agent in agents:
            lease = agent.lease("train")
            sent = agent.http.get(f"/v1/blobs/{lease['assignment']['broadcast']['sha256']}").content
            assert set(tensors_of(sent, tmp_path)) == {f"c/{B}"}
            agent.train(as_bytes(tmp_path, drawn(10 * number + agents.index(agent), only_b)), lease, extras)
    operator.wait_for(campaign_id, "completed")
    for number in (1, 2, 3):
        found = adapter(operator, campaign_id, number, tmp_path)
        assert found[A].tobytes() == zero[A].tobytes()
        assert not np.array_equal(found[B], zero[B])
    assert metrics(operator, campaign_id, "factor_gap") == [0.0] * 3
    assert metrics(operator, campaign_id, "factor_gap_relative") == [0.0] * 3
