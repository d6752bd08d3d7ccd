"""A whole campaign by hand, over plain HTTP, on both databases."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared.adapters.files import AdapterFile
from tests.support.messages import evaluated
from tests.support.operator import Operator
from tests.support.scripted import SHAPES, ScriptedAgent, adapter_bytes, campaign_body, initial_bytes

Enroll = Callable[..., ScriptedAgent]


@pytest.mark.usefixtures("either_coordinator")
def test_two_rounds_give_the_weighted_mean(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    body = campaign_body(
        rounds=2, evaluation={"every": 1}, training={"steps": 1, "learning_rate": 0.1, "min_learning_rate": 0.0}
    )
    campaign_id = operator.post("/v1/campaigns", body)["id"]
    ada.prepare(n_train=30, n_held_out=5)
    bob.prepare(n_train=10, n_held_out=5)
    ada.init(initial_bytes(tmp_path, 1.0))
    for round_number in (1, 2):
        for agent, loss in ((ada, 2.0), (bob, 1.0)):
            lease = agent.lease("evaluate")
            assert lease["assignment"]["round"] == round_number - 1
            body = evaluated(loss - round_number / 10, n_rows=5, n_tokens=100)
            assert agent.result(lease, body).status_code == 200
        ada.train(adapter_bytes(tmp_path, fill=4.0))
        bob.train(adapter_bytes(tmp_path, fill=8.0))
    for agent in (ada, bob):
        lease = agent.lease("evaluate")
        agent.result(lease, evaluated(0.5, n_rows=5, n_tokens=100))
    campaign = operator.wait_for(campaign_id, "completed")
    assert campaign["final_adapter"] == 2
    assert campaign["best_adapter"] == 2
    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert [adapter["metrics"]["held_out_loss"] for adapter in adapters] == pytest.approx([1.4, 1.3, 0.5])
    assert [share["weight"] for share in adapters[2]["contributions"]] == [0.75, 0.25]
    assert adapters[2]["parent_sha256"] == adapters[1]["blob"]["sha256"]
    path = tmp_path / "final.safetensors"
    path.write_bytes(operator.http.get(f"/v1/blobs/{adapters[2]['blob']['sha256']}").content)
    with AdapterFile(path) as final:
        for name, shape in SHAPES.items():
            expected = ("lora_A" in name) + 5 + 5
            np.testing.assert_array_equal(final.read(name), np.full(shape, expected, dtype=np.float32))
    rounds = operator.items(f"/v1/campaigns/{campaign_id}/rounds")
    assert [row["state"] for row in rounds] == ["closed", "closed"]
    assert [row["learning_rate"] for row in rounds] == pytest.approx([0.1, 0.05])
    assert operator.events(campaign_id)[-1] == "campaign-moved"
    # by default no updates of closed rounds are retained
    assert set(operator.get("/v1/storage")["bytes_by_kind"]) == {"adapter"}
