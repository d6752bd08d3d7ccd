"""The agent that builds adapter 0 crafts it: no other owner's agent computes anything from it, and all say why."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.ledger.entries import Request
from shared.adapters.files import AdapterFile, write_adapter
from tests.e2e.test_training import CAMPAIGN, make_agent
from tests.support.ledgers import ledger_of
from tests.support.operator import Operator
from tests.support.processes import QuickAgent, QuickCoordinator, ended
from tests.support.scripted import ScriptedAgent

pytestmark = [pytest.mark.train, pytest.mark.deep]


def adapter_zero(operator: Operator, campaign_id: str, path: Path) -> dict[str, Any]:
    [first, *_] = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    path.write_bytes(operator.http.get(f"/v1/blobs/{first['blob']['sha256']}").content)
    with AdapterFile(path) as file:
        return {name: file.read(name).copy() for name in file.tensors}


def answers(agent: QuickAgent, campaign_id: str) -> set[tuple[str, str]]:
    """The results and failures of a campaign that have left the agent's machine, each with its kind."""
    requests = [each.says for each in ledger_of(agent.home) if isinstance(each.says, Request)]
    of_campaign = [each for each in requests if each.campaign == campaign_id]
    return {(each.purpose, each.body["kind"]) for each in of_campaign if each.purpose in ("result", "failure")}


def test_owners_refuse_an_adapter_zero_that_its_seed_does_not_give(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model, lines = make_model(tmp_path / "model"), [json.dumps(row) for row in ROWS]
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    parts = {"ada": lines[:30], "bob": lines[30:]}
    agents = [make_agent(coordinator, tmp_path / name, model, "\n".join(rows)) for name, rows in parts.items()]
    with ended(coordinator, *agents):
        for agent in agents:
            agent.start()
        operator = coordinator.operator
        honest = operator.post("/v1/campaigns", CAMPAIGN | {"rounds": 1, "selection": {"minimum": 2}})["id"]
        done = operator.wait_for(honest, "completed", "paused", timeout_s=200)
        assert done["state"] == "completed", done["reason"]
        tensors = adapter_zero(operator, honest, tmp_path / "honest.safetensors")

        mallory = ScriptedAgent(coordinator.url, operator.token(), "a-mallory")  # the first by name builds adapter 0
        crafted = {name: values * np.float32(-1) for name, values in tensors.items() if "lora_A" in name}
        write_adapter(tmp_path / "crafted.safetensors", tensors | crafted)
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN | {"name": "two", "selection": {"minimum": 3}})["id"]
        mallory.prepare(fingerprint=done["fingerprint"], rank=4)
        mallory.init((tmp_path / "crafted.safetensors").read_bytes())

        def refusals(kind: str) -> dict[str, Any]:
            tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
            return {task["agent_name"]: task["failure"] for task in tasks if task["kind"] == kind and task["failure"]}

        for kind in ("evaluate", "train"):
            failures = operator.wait_until(
                lambda kind=kind: refusals(kind), lambda found: len(found) == 2, timeout_s=90
            )
            assert set(failures) == {"ada", "bob"}
            for failure in failures.values():
                assert failure["kind"] == "contract-mismatch"
                assert failure["message"].startswith("adapter 0 is not the one that seed 3 gives (base_model.model.")
        mallory.http.close()
    for agent in agents:
        assert answers(agent, campaign_id) == {("result", "prepare"), ("failure", "contract-mismatch")}
