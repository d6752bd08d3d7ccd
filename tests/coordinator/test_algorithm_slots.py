"""A whole campaign with an algorithm that keeps state, broadcasts and takes extras, installed as a plug-in is."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from shared import algorithms
from shared.adapters import AdapterFile, write_adapter
from tests.support.operator import Operator, problem
from tests.support.scripted import SHAPES, ScriptedAgent, adapter_bytes, begin_campaign

Enroll = Callable[..., ScriptedAgent]


@pytest.fixture
def slots_algorithm(tmp_path: Path) -> Iterator[None]:
    """Install tests.coordinator.slots under the name `slots`."""
    info = tmp_path / "site" / "slots-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slots\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fedloom.algorithms]\nslots = tests.coordinator.slots\n")
    sys.path.append(str(info.parent))
    algorithms._installed.cache_clear()
    yield
    sys.path.remove(str(info.parent))
    algorithms._installed.cache_clear()
    algorithms.find.cache_clear()


def extras_bytes(folder: Path, fill: float) -> bytes:
    tensors = {f"e/{name}": np.full(shape, fill, dtype=np.float32) for name, shape in SHAPES.items()}
    write_adapter(folder / "extras", tensors)
    return (folder / "extras").read_bytes()


@pytest.mark.usefixtures("slots_algorithm", "coordinator")
def test_state_broadcast_and_extras_go_round(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob, cyd = enroll("ada"), enroll("bob"), enroll("cyd")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob, cyd], rounds=2, algorithm={"name": "slots"})
    delta = adapter_bytes(tmp_path, 1.0)
    for round_number in (1, 2):
        for agent in (ada, bob):
            lease = agent.lease("train")
            broadcast = lease["job"]["broadcast"]
            assert (broadcast is None) == (round_number == 1)
            if broadcast is not None:
                (tmp_path / "m").write_bytes(agent.http.get(f"/v1/blobs/{broadcast['sha256']}").content)
                with AdapterFile(tmp_path / "m") as file:
                    for name, shape in SHAPES.items():  # ½ · 1 + ⅓ · 3 + ⅓ · 3
                        np.testing.assert_array_equal(file.read(f"m/{name}"), np.full(shape, 2.5, np.float32))
            result = agent.train_result(
                agent.upload(lease, "delta", delta), agent.upload(lease, "extras", extras_bytes(tmp_path, 3.0))
            )
            assert agent.result(lease, result).status_code == 200
        lease = cyd.lease("train") if round_number == 1 else None
        if lease is not None:  # an update without what the algorithm lives on
            reply = cyd.result(lease, cyd.train_result(cyd.upload(lease, "delta", delta)))
            assert (reply.status_code, problem(reply).kind) == (422, "bad-update")
            assert "needs the extras e" in problem(reply).detail
        else:
            cyd.failure(cyd.lease("train"), kind="crash", message="no")
    operator.wait_for(campaign_id, "completed")
    adapter = operator.get(f"/v1/campaigns/{campaign_id}/adapters/2")
    (tmp_path / "final").write_bytes(operator.http.get(f"/v1/blobs/{adapter['blob']['sha256']}").content)
    with AdapterFile(tmp_path / "final") as file:
        for name, shape in SHAPES.items():  # (0 + 1 + 1) + 1 + 2.5
            np.testing.assert_array_equal(file.read(name), np.full(shape, 5.5, np.float32))
    kinds = operator.get("/v1/storage")["bytes_by_kind"]
    assert set(kinds) == {"adapter", "broadcast", "server_state"}
    assert kinds["server_state"] > kinds["broadcast"]
