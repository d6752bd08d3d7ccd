"""A campaign that leaves the precision on CPUs to its agents, with real training: decided once, and kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.record.record import OwnerRecord
from tests.e2e.test_training import CAMPAIGN, SETTINGS, make_agent
from tests.support.processes import QuickCoordinator, ended, wait_until

pytestmark = [pytest.mark.train, pytest.mark.deep]

OWN = {"ada": "bfloat16", "bob": "float32"}
"""What each owner had set when the agent prepared."""


def settings_with(dtype: str) -> str:
    return SETTINGS.replace("threads = 1", f'threads = 1\ndevice = "cpu"\ndtype = "{dtype}"')


def test_what_an_agent_decided_is_kept_after_a_restart_with_other_settings(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model = make_model(tmp_path / "model")
    lines = [json.dumps(row) for row in ROWS]
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    rows = {"ada": "\n".join(lines[:40]), "bob": "\n".join(lines[40:])}
    agents = {
        name: make_agent(coordinator, tmp_path / name, model, rows[name], settings_with(dtype))
        for name, dtype in OWN.items()
    }
    body = {**CAMPAIGN, "base": {"model": "org/tiny", "cpu_dtype": "auto"}, "rounds": 4}
    with ended(coordinator, *agents.values()):
        for agent in agents.values():
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", body)["id"]

        def participants() -> dict[str, Any]:
            return {each["agent_name"]: each for each in operator.get(f"/v1/campaigns/{campaign_id}")["participants"]}

        wait_until(lambda: all(each["cpu_dtype"] for each in participants().values()) and participants(), "both")
        for agent in agents.values():
            agent.process.kill()
            settings = agent.home / "agent.toml"
            text = settings.read_text()
            assert '\ndtype = "' in text
            settings.write_text("".join(line for line in text.splitlines(True) if not line.startswith("dtype")))
            agent.start()
        campaign = operator.wait_for(campaign_id, "completed", "paused", timeout_s=200)
        assert campaign["state"] == "completed", campaign["reason"]
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert {name: each["cpu_dtype"] for name, each in participants_of(campaign).items()} == OWN
    for adapter in adapters[1:]:
        on = {each["agent_name"]: "base in bfloat16" in each["trained_on"] for each in adapter["contributions"]}
        assert on == {"ada": True, "bob": False}
    losses = [adapter["metrics"]["held_out_loss"] for adapter in adapters]
    assert losses[-1] < losses[0]
    for name, agent in agents.items():
        known = OwnerRecord(agent.home).campaigns.find(campaign_id)
        assert known is not None
        assert known.prepared is not None
        assert known.prepared.cpu_dtype == OWN[name]


def participants_of(campaign: dict[str, Any]) -> dict[str, Any]:
    return {each["agent_name"]: each for each in campaign["participants"]}


def test_an_owner_whose_setting_contradicts_is_left_out_and_the_reason_is_told(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model = make_model(tmp_path / "model")
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    rows = "\n".join(json.dumps(row) for row in ROWS)
    named, auto = settings_with("float32"), settings_with("float32").replace('device = "cpu"', 'device = "auto"')
    agents = [
        make_agent(coordinator, tmp_path / name, model, rows, settings)
        for name, settings in (("ada", named), ("bob", auto))
    ]
    body = {**CAMPAIGN, "base": {"model": "org/tiny", "cpu_dtype": "bfloat16"}}
    with ended(coordinator, *agents):
        for agent in agents:
            agent.start()
        campaign_id = coordinator.operator.post("/v1/campaigns", body)["id"]
        campaign = coordinator.operator.wait_for(campaign_id, "paused", timeout_s=200)
    for each in campaign["participants"]:
        assert (each["state"], each["cpu_dtype"]) == ("failed", None)
        assert 'in bfloat16 on a CPU (base.cpu_dtype), and compute.dtype = "float32"' in each["reason"]
