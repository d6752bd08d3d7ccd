"""A real campaign with real training on a tiny model, with each program in its own process."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.chat_templates import changing
from tests.support.processes import QuickAgent, QuickCoordinator, ended

pytestmark = pytest.mark.train

CAMPAIGN = {
    "name": "tiny",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 4},
    "training": {"steps": 8, "batch_size": 4, "max_length": 128, "learning_rate": 0.01, "seed": 3},
    "data": {"name": "rows"},
    "rounds": 2,
    "selection": {"minimum": 2},
    "evaluation": {"every": 1},
}
SETTINGS = """
[compute]
threads = 1
[models]
"org/tiny" = "{model}"
[data.rows]
path = "rows.jsonl"
prompt = "instruction"
input = "input"
completion = "output"
held_out = 0.2
"""


def make_agent(
    coordinator: QuickCoordinator, home: Path, model: Path, rows: str, settings: str = SETTINGS
) -> QuickAgent:
    agent = QuickAgent(home)
    agent.enroll(coordinator, settings.format(model=model))
    (home / "rows.jsonl").write_text(rows)
    return agent


def test_compatible_agents_train_and_the_others_report_why_not(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model, other_model = make_model(tmp_path / "model"), make_model(tmp_path / "other", seed=1)
    lines = [json.dumps(row) for row in ROWS]
    all_rows = "\n".join(lines)
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = {
        name: make_agent(coordinator, tmp_path / name, folder, rows, settings)
        for name, folder, rows, settings in (
            ("ada", model, "\n".join(lines[:40]), SETTINGS),
            ("bob", model, "\n".join([*lines[40:], json.dumps({**ROWS[0], "output": "done<|im_end|>"})]), SETTINGS),
            ("cyd", other_model, all_rows, SETTINGS),
            ("dee", tmp_path / "nowhere", all_rows, SETTINGS),
            ("eve", model, "\n".join([*lines[:2], '{"instruction": ', *lines[2:]]), SETTINGS),
            ("fay", model, "", SETTINGS),
            ("gus", model, all_rows, SETTINGS + "[policy]\nmax_steps = 5\n"),
            ("hal", model, json.dumps({**ROWS[0], "instruction": "long " * 400}), SETTINGS),
            ("ida", model, all_rows, SETTINGS + 'template = "own.jinja"\n'),
        )
    }
    (agents["ida"].home / "own.jinja").write_text(changing("m['content'][:20]"))
    with ended(coordinator, *agents.values()):
        for agent in agents.values():
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        campaign = operator.wait_for(campaign_id, "completed", "paused", timeout_s=400)
        assert campaign["state"] == "completed", campaign["reason"]
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    participants = {each["agent_name"]: each for each in campaign["participants"]}
    assert {name: each["state"] for name, each in participants.items() if each["state"] != "failed"} == {
        "ada": "prepared",
        "bob": "prepared",
        "cyd": "mismatched",
    }
    assert participants["ada"]["reason"] is None
    assert participants["bob"]["reason"] == (
        "data.rows: line 41 has a special token of the tokenizer in its text, which acts as a control token"
    )
    assert "weights" in participants["cyd"]["reason"]
    assert "nowhere" not in participants["dee"]["reason"], "paths stay at the agent"
    assert "[models]" in participants["dee"]["reason"]
    assert "line 3" in participants["eve"]["reason"]
    assert "no rows" in participants["fay"]["reason"]
    assert "policy.max_steps = 5" in participants["gus"]["reason"]
    assert "no room for its completion in 128 tokens (1)" in participants["hal"]["reason"]
    assert "the template drops part of the completion, or changes it" in participants["ida"]["reason"]
    losses = [adapter["metrics"]["held_out_loss"] for adapter in adapters]
    assert losses[2] < losses[1] < losses[0]
    assert [share["agent_name"] for share in adapters[2]["contributions"]] == ["ada", "bob"]
    assert all(
        f"; torch {version('torch')}, transformers " in share["trained_on"] for share in adapters[2]["contributions"]
    )
    for name in ("ada", "bob"):
        logs = "".join(log.read_text() for log in (agents[name].home / "logs").iterdir())
        assert logs.count("base model loaded") == 1
