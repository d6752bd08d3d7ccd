"""Public benchmarks of a campaign at real agents with real children, on made-up data in the published layouts."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.record.record import OwnerRecord
from tests.e2e.test_training import SETTINGS
from tests.support.ledgers import sent
from tests.support.operator import Operator
from tests.support.processes import QuickAgent, ended
from tests.support.published import finance
from tests.support.server import RunningCoordinator

pytestmark = pytest.mark.train

CAMPAIGN = {
    "name": "measured",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 4},
    "training": {"steps": 2, "batch_size": 4, "max_length": 128, "learning_rate": 0.01, "seed": 3},
    "data": {"name": "rows"},
    "rounds": 1,
    "selection": {"minimum": 2},
    "evaluation": {"tasks": ["fpb", "fpb_likelihood", "tfns"], "limit": 4, "seed": 5, "best": "fpb_likelihood.acc"},
}


def make_agent(
    coordinator: RunningCoordinator, operator: Operator, home: Path, model: Path, rows: list[Any], policy: str = ""
) -> QuickAgent:
    agent = QuickAgent(home)
    agent.enroll(_Reached(coordinator.url, operator), SETTINGS.format(model=model) + policy)
    (home / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return agent


class _Reached:
    def __init__(self, url: str, operator: Operator) -> None:
        self.url, self.operator = url, operator


@pytest.mark.deep
def test_each_benchmark_runs_where_its_owner_allows_it_and_has_its_data(
    coordinator: RunningCoordinator, operator: Operator, tmp_path: Path
) -> None:
    from tests.support.tiny import ROWS, make_model

    model = make_model(tmp_path / "model")
    agents = {
        "ada": make_agent(coordinator, operator, tmp_path / "ada", model, ROWS[:40], '[policy]\nsuites = ["fpb"]\n'),
        "bob": make_agent(coordinator, operator, tmp_path / "bob", model, ROWS[40:]),
    }
    for agent in agents.values():
        finance.fpb(agent.home / "evaluation-data", n=40)
    with ended(*agents.values()):
        for agent in agents.values():
            agent.start()
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        campaign = operator.wait_for(campaign_id, "completed", "paused", timeout_s=200)
        assert campaign["state"] == "completed", campaign["reason"]
    adapters = [operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}") for number in (0, 1)]
    for adapter in adapters:
        by_name = {each["name"]: each for each in adapter["benchmarks"]}
        assert (by_name["fpb"]["n_asked"], by_name["fpb"]["n_published"]) == (4, 1212)
        assert by_name["fpb_likelihood"]["agent_name"] == "bob"
        assert "no agent of the campaign runs it" in by_name["tfns"]["not_run"]
        assert {"fpb.acc", "fpb_likelihood.acc"} <= adapter["metrics"].keys()
    assert campaign["best_adapter"] is not None
    offers = {name: sent(agent.home, "offer of benchmarks") for name, agent in agents.items()}
    named = {name: [each["name"] for each in told[0]["benchmarks"]] for name, told in offers.items()}
    assert named == {"ada": ["fpb"], "bob": ["fpb", "fpb_likelihood"]}
    printed = agents["ada"].process.printed()
    assert "benchmark tfns is not offered: policy.suites does not name it" in printed
    assert "benchmark tfns is not offered: put tfns/" in agents["bob"].process.printed()
    ran = {name: OwnerRecord(agent.home).benchmarks.count(campaign_id) for name, agent in agents.items()}
    assert sum(ran.values()) == 4
