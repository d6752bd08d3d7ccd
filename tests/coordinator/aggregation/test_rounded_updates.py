"""Rounds whose updates came in bfloat16 or int8: aggregated as what they decode to, verified from what was stored."""

import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from coordinator.engine.aggregation import factor_gap as module
from coordinator.engine.aggregation.aggregate import Aggregated, aggregate
from coordinator.engine.aggregation.factor_gap import factor_gap
from coordinator.engine.aggregation.files import ClientUpdate
from shared import algorithms
from shared.adapters.feedback import outgoing
from shared.adapters.files import AdapterFile, Contract, TensorSpec, write_adapter
from shared.adapters.updates import UpdateFile
from shared.algorithms import RoundFacts
from shared.campaign.spec import LoraSection, Wire
from shared.digest import sha256_hex
from tests.support.operator import Operator, problem
from tests.support.scripted import SHAPES as SMALL
from tests.support.scripted import ScriptedAgent, begin_campaign
from tests.support.suite.tiers import deep

Enroll = Callable[..., ScriptedAgent]
Tensors = dict[str, np.ndarray]

A, B = "m.q.lora_A.weight", "m.q.lora_B.weight"
SHAPES = {A: (4, 300), B: (301, 4)}
LORA = LoraSection(rank=4)
FACTS = RoundFacts(number=2, seed=0, scale=LORA.scale, first=False)
ROUNDED = ["int8", deep("bfloat16")]


def drawn(seed: int, prefix: str = "") -> Tensors:
    noise = np.random.default_rng(seed)
    return {prefix + name: noise.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def contract_of(prefix: str = "") -> Contract:
    return Contract.of({prefix + name: TensorSpec("F32", shape) for name, shape in SHAPES.items()})


def of_clients(folder: Path, wire: Wire, *, decoded: bool) -> list[ClientUpdate]:
    """Updates of three clients, as they travel, or as float32 files of the same values."""
    updates = []
    for number, p in enumerate((0.2, 0.3, 0.5)):
        sent = outgoing(drawn(number), drawn(100 + number, "delta_c/"), wire)
        paths = []
        for kind, tensors, contract in (
            ("delta", sent.delta, contract_of()),
            ("extras", sent.extras, contract_of("delta_c/")),
        ):
            path = folder / f"{kind}-{number}"
            write_adapter(path, tensors)
            if decoded:
                with UpdateFile(path, like=contract) as file:
                    values = {name: file.read(name).copy() for name in file.tensors}
                write_adapter(path := folder / f"{kind}-{number}-decoded", values)
            paths.append(path)
        updates.append(ClientUpdate(number, p, p / 2, *paths))
    return updates


def aggregated(folder: Path, updates: list[ClientUpdate]) -> Aggregated:
    scaffold = algorithms.find("scaffold")
    write_adapter(folder / "parent", drawn(50))
    write_adapter(folder / "state", drawn(60, "c/"))
    (out := folder / f"out-{updates[0].delta.name}").mkdir()
    params = scaffold.params()
    rest = {"facts": FACTS, "lora": LORA, "measures_gap": True}
    return aggregate(scaffold, params, folder / "parent", folder / "state", updates, out, **rest)


@pytest.mark.parametrize("wire", ROUNDED)
def test_it_is_the_aggregation_of_what_they_decode_to(tmp_path: Path, wire: Wire) -> None:
    made, expected = (aggregated(tmp_path, of_clients(tmp_path, wire, decoded=each)) for each in (False, True))
    assert made.adapter.read_bytes() == expected.adapter.read_bytes()
    assert made.state is not None
    assert expected.state is not None
    assert made.state.read_bytes() == expected.state.read_bytes()
    assert made.update_norm == expected.update_norm
    assert made.factor_gap == expected.factor_gap
    assert made.factor_gap is not None
    assert made.factor_gap.gap > 0


@pytest.mark.parametrize("wire", ROUNDED)
@pytest.mark.parametrize("block_bytes", [3000, 1])
def test_the_gap_is_that_of_what_they_decode_to_by_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: Wire, block_bytes: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", block_bytes)
    write_adapter(tmp_path / "parent", drawn(50))
    found = []
    for decoded in (False, True):
        updates = of_clients(tmp_path, wire, decoded=decoded)
        with ExitStack() as stack:
            parent = stack.enter_context(AdapterFile(tmp_path / "parent"))
            files = [(each.p, stack.enter_context(UpdateFile(each.delta, like=contract_of()))) for each in updates]
            found.append(factor_gap(parent, files, LORA.scale))
    assert found[0] == found[1]


def test_memory_of_the_gap_does_not_grow_with_the_number_of_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1 << 18)
    noise = np.random.default_rng(0)
    shapes = {A: (4, 65536), B: (65536, 4)}
    tensors = {name: noise.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    write_adapter(tmp_path / "parent", tensors)
    write_adapter(tmp_path / "delta", outgoing(tensors, {}, "int8").delta)
    peaks = []
    of_both = Contract.of({name: TensorSpec("F32", shape) for name, shape in shapes.items()})
    with AdapterFile(tmp_path / "parent") as parent, UpdateFile(tmp_path / "delta", like=of_both) as file:
        for n_clients in (2, 32):
            tracemalloc.start()
            factor_gap(parent, [(1 / n_clients, file)] * n_clients, 1.0)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert max(peaks) < 8 * (1 << 18), "a few blocks; not the clients' tensors of 1 MB"


# --- over HTTP


def rounded(folder: Path, seed: int, wire: Wire) -> bytes:
    noise = np.random.default_rng(seed)
    delta = {name: noise.standard_normal(shape).astype(np.float32) / 8 for name, shape in SMALL.items()}
    write_adapter(folder / "rounded", outgoing(delta, {}, wire).delta)
    return (folder / "rounded").read_bytes()


@pytest.mark.usefixtures("coordinator")
def test_updates_in_int8_are_checked_stored_as_they_came_and_verified(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll("ada"), enroll("bob"), enroll("cyd")]
    ada, bob, cyd = agents
    campaign_id = begin_campaign(operator, tmp_path, agents, wire="int8", retention={"updates": 1})
    good = rounded(tmp_path, 1, "int8")
    lease = cyd.lease("train")
    assert cyd.start_upload(lease, "delta", rounded(tmp_path, 1, "float32")).status_code in (413, 422)
    hostile = bytearray(good)
    hostile[-1] = 0x80  # the last whole number
    reply = cyd.result(lease, cyd.train_result(cyd.upload(lease, "delta", bytes(hostile))))
    assert (reply.status_code, problem(reply).kind) == (422, "bad-update")
    assert problem(reply).detail.endswith("holds -128, and int8 values are from -127 to 127")
    ada.train(good)
    bob.train(rounded(tmp_path, 2, "int8"))
    operator.wait_for(campaign_id, "completed")
    adapter = operator.get(f"/v1/campaigns/{campaign_id}/adapters/1")
    assert [each["agent_name"] for each in adapter["contributions"]] == ["ada", "bob"]
    assert adapter["contributions"][0]["update_sha256"] == sha256_hex(good)
    assert [each["outcome"] for each in operator.verify(campaign_id)] == ["verified"] * 2
