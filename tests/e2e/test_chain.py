"""A chain on a tiny model: three owners, each in its own process, fine-tune and then train on preferences."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedloom import Client
from fedloom.adapters.lineage import Lineage
from tests.e2e.test_training import make_agent
from tests.support.processes import QuickCoordinator, ended

pytestmark = pytest.mark.train

TAUGHT: dict[str, Any] = {
    "name": "taught",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 4},
    "training": {"steps": 6, "batch_size": 4, "max_length": 128, "learning_rate": 0.01, "seed": 3},
    "data": {"name": "rows"},
    "rounds": 1,
    "selection": {"minimum": 3},
    "evaluation": {"every": 0},
}
TUNED: dict[str, Any] = {
    **TAUGHT,
    "name": "tuned",
    "kind": "dpo",
    "dpo": {"beta": 0.3, "reference": "initial"},
    "start_from": "taught/final",
    "evaluation": {"every": 1},
}


@pytest.mark.deep
def test_three_owners_continue_with_preferences_after_fine_tuning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tests.support.tiny import PAIRS, make_model

    monkeypatch.setattr("fedloom.client.LONGEST_POLL_S", 0.2)
    model = make_model(tmp_path / "model")
    lines = [json.dumps({**row, "output": row["chosen"]}) for row in PAIRS]
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    parts = {"ada": lines[:26], "bob": lines[26:52], "cyd": lines[52:]}
    agents = [make_agent(coordinator, tmp_path / name, model, "\n".join(rows)) for name, rows in parts.items()]
    with ended(coordinator, *agents):
        for agent in agents:
            agent.start()
        with Client(coordinator.url, coordinator.operator.key) as client:
            for campaign in (TAUGHT, TUNED):
                done = client.wait(client.create_campaign(campaign).id, timeout_s=400)
                assert done.state == "completed", done.reason
                client.pull_adapter(done.id, "final", tmp_path / str(campaign["name"]))
            adapters = list(client.adapters(done.id))
            tasks = {task.kind for task in client.tasks(done.id)}
    assert tasks == {"prepare", "train", "evaluate"}
    taught, tuned = (
        Lineage.model_validate_json((tmp_path / name / "fedloom.json").read_text()) for name in ("taught", "tuned")
    )
    assert adapters[0].blob.sha256 == taught.sha256
    [origin] = tuned.origins
    assert (origin.campaign_id, origin.kind) == (taught.campaign_id, "sft")
    assert (origin.adapter_number, origin.sha256) == (1, taught.sha256)
    # DPO starts at its reference adapter, where the loss is ln 2
    losses = [adapter.held_out_loss for adapter in adapters]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[1] is not None
    assert losses[1] < 0.69

    tokens = torch.arange(3, 40)[None]
    logits = []
    for name in ("taught", "tuned"):
        base = AutoModelForCausalLM.from_pretrained(model)
        with torch.no_grad():
            logits.append(PeftModel.from_pretrained(base, tmp_path / name).eval()(tokens).logits)
    assert all(torch.isfinite(each).all() for each in logits)
    assert not torch.allclose(*logits, atol=1e-3)
