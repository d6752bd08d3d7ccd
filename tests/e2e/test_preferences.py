"""A campaign of preference optimisation on a tiny model, with each program in its own process."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedloom import Client
from shared.digest import sha256_file
from tests.e2e.test_training import SETTINGS, make_agent
from tests.support.processes import QuickCoordinator, ended

pytestmark = pytest.mark.train

CAMPAIGN: dict[str, Any] = {
    "name": "preferences",
    "kind": "dpo",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 4},
    "training": {"steps": 6, "batch_size": 4, "max_length": 128, "learning_rate": 0.005, "seed": 3},
    "dpo": {"beta": 0.3},
    "data": {"name": "rows"},
    "rounds": 2,
    "selection": {"minimum": 2},
}


@pytest.mark.deep
def test_two_owners_of_preferences_end_with_a_better_adapter(tmp_path: Path) -> None:
    from tests.support.tiny import PAIRS, make_model

    model = make_model(tmp_path / "model")
    lines = [json.dumps({**row, "better": row["chosen"]}) for row in PAIRS]
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    settings = SETTINGS + 'chosen = "better"\n'
    agents = [
        make_agent(coordinator, tmp_path / name, model, "\n".join(rows), settings)
        for name, rows in (("ada", lines[:40]), ("bob", lines[40:]))
    ]
    with ended(coordinator, *agents):
        for agent in agents:
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        campaign = operator.wait_for(campaign_id, "completed", "paused", timeout_s=400)
        assert campaign["state"] == "completed", campaign["reason"]
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
        metrics = operator.items(f"/v1/campaigns/{campaign_id}/metrics")
        with Client(coordinator.url, operator.key) as client:
            client.pull_adapter(campaign_id, "final", tmp_path / "pulled")
    units = {row["name"]: row["unit"] for row in metrics}
    assert {unit for name, unit in units.items() if name.endswith(("loss", "loss_mean", "margin"))} == {"nats a pair"}
    card = (tmp_path / "pulled" / "README.md").read_text()
    assert f"| held-out loss | {adapters[2]['metrics']['held_out_loss']:.4f} nats a pair |" in card
    assert "nats a token" not in card
    losses = [adapter["metrics"]["held_out_loss"] for adapter in adapters]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[2] < losses[1] < losses[0]
    accuracies = [row for row in metrics if row["name"] == "held_out_accuracy" and row["client_number"] is None]
    assert [row["round"] for row in accuracies] == [0, 1, 2]
    assert accuracies[2]["value"] > 0.8
    assert sha256_file(tmp_path / "pulled" / "adapter_model.safetensors") == adapters[2]["blob"]["sha256"]
