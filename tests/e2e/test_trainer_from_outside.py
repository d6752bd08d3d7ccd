"""An owner's own trainer, as an installed distribution, in a campaign over HTTP beside Fedloom's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_training import CAMPAIGN, SETTINGS, make_agent
from tests.support.entry_points import write_out
from tests.support.processes import ROOT, QuickCoordinator, ended

pytestmark = pytest.mark.train

WITH_LOOP = SETTINGS.replace("threads = 1", 'threads = 1\ntrainer = "loop"')


@pytest.mark.deep
def test_an_owners_trainer_works_in_a_campaign_with_others_and_is_named_with_its_updates(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model, lines = make_model(tmp_path / "model"), [json.dumps(row) for row in ROWS]
    site = write_out(ROOT / "examples" / "trainers", tmp_path / "site")
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    ada = make_agent(coordinator, tmp_path / "ada", model, "\n".join(lines[:40]))
    bob = make_agent(coordinator, tmp_path / "bob", model, "\n".join(lines[40:]), WITH_LOOP)
    bob.environment |= {"PYTHONPATH": site}
    body: dict[str, Any] = {**CAMPAIGN, "algorithm": {"name": "scaffold"}}
    with ended(coordinator, ada, bob):
        for agent in (ada, bob):
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", body)["id"]
        campaign = operator.wait_for(campaign_id, "completed", "paused", "failed", timeout_s=400)
        assert campaign["state"] == "completed", campaign["reason"]
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    losses = [each["metrics"]["held_out_loss"] for each in adapters]
    assert losses[2] < losses[1] < losses[0]
    trained_on = [share["trained_on"] for share in adapters[2]["contributions"]]
    assert ["trainer loop (fedloom-example-trainers 0.1)" in each for each in trained_on] == [False, True]
    assert "training by loop (fedloom-example-trainers 0.1), as agent.toml says" in (tmp_path / "bob.log").read_text()


def test_an_agent_does_not_start_with_a_trainer_that_is_not_installed(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    bob = make_agent(coordinator, tmp_path / "bob", tmp_path, "", WITH_LOOP)
    with ended(coordinator, bob):
        bob.start()
        assert bob.process.popen.wait(60) != 0
    said = (tmp_path / "bob.log").read_text()
    assert "agent.toml, line 4: compute.trainer: no trainer 'loop' is installed here; installed are trl." in said
