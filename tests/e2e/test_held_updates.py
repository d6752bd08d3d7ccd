"""Three owners, one of whom holds updates: the others' campaign goes on, and one that needs all waits for a release."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.record.held import HeldUpdate
from agent.record.record import OwnerRecord
from tests.e2e.test_training import SETTINGS, make_agent
from tests.support.ledgers import ledger_text, sent
from tests.support.processes import ROOT, QuickAgent, QuickCoordinator, ended, wait_until

pytestmark = [pytest.mark.train, pytest.mark.soak]

HOLDS = "[policy]\nhold_updates = true\n"
CAMPAIGN: dict[str, Any] = {
    "base": {"model": "org/tiny"},
    "lora": {"rank": 4},
    "training": {"steps": 8, "batch_size": 4, "max_length": 128, "learning_rate": 0.01, "seed": 3},
    "data": {"name": "rows"},
    "evaluation": {"every": 1},
}


def typed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type a command into a terminal of 80 columns."""
    return subprocess.run(
        [sys.executable, "-m", "fedloom", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", **environment},
        check=False,
        timeout=120,
    )


def held(agent: QuickAgent, campaign_id: str) -> HeldUpdate:
    def found() -> HeldUpdate | None:
        kept = OwnerRecord(agent.home).held.kept(campaign_id)
        return kept[-1] if kept and kept[-1].review is not None else None

    update = wait_until(found, "a held update", 120)
    assert isinstance(update, HeldUpdate)
    return update


def test_the_campaign_goes_on_and_a_release_sends_the_update(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model = make_model(tmp_path / "model")
    lines = [json.dumps(row) for row in ROWS]
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    rows = {"ada": lines[:30], "bob": lines[30:60], "cyd": lines}
    agents = {
        name: make_agent(
            coordinator, tmp_path / name, model, "\n".join(some), SETTINGS + (HOLDS if name == "cyd" else "")
        )
        for name, some in rows.items()
    }
    operator, cyd = coordinator.operator, agents["cyd"]
    with ended(coordinator, *agents.values()):
        for agent in agents.values():
            agent.start()
        goes_on = operator.post("/v1/campaigns", {**CAMPAIGN, "name": "two", "rounds": 2, "selection": {"minimum": 2}})
        first = held(cyd, goes_on["id"])
        assert operator.wait_for(goes_on["id"], "completed", timeout_s=300)["rounds_closed"] == 2
        for number in (1, 2):
            adapter = operator.get(f"/v1/campaigns/{goes_on['id']}/adapters/{number}")
            assert [share["agent_name"] for share in adapter["contributions"]] == ["ada", "bob"]
        assert first.review is not None
        assert first.review.loss_before != first.review.loss_after

        waits = operator.post("/v1/campaigns", {**CAMPAIGN, "name": "all", "rounds": 1, "selection": {"minimum": 3}})
        update = held(cyd, waits["id"])
        path = f"/v1/campaigns/{waits['id']}"
        reason = "round 1 has 2 of at least 3 updates; the update of cyd is held by its owner"
        operator.wait_until(lambda: operator.get(path)["reason"], lambda said: said == reason)
        shown = typed("campaign", "show", "all", FEDLOOM_URL=coordinator.url, FEDLOOM_KEY=operator.key)
        assert shown.returncode == 0, shown.stderr
        assert "held by its owner" in shown.stdout
        assert max(map(len, shown.stdout.splitlines())) <= 80
        assert sent(cyd.home, "delta") == []

        looked = typed("agent", "release", waits["id"], "--home", str(cyd.home))
        assert looked.returncode == 2
        assert max(map(len, looked.stdout.splitlines())) <= 80
        assert update.review is not None
        assert f"{update.review.loss_before:.4f} before, {update.review.loss_after:.4f} after" in looked.stdout
        for number in range(1, 6):
            assert f"prompt {number} " in looked.stdout
        released = typed("agent", "release", waits["id"], "--yes", "--home", str(cyd.home))
        assert released.returncode == 0, released.stderr
        operator.wait_for(waits["id"], "completed", timeout_s=120)
        shares = operator.get(f"{path}/adapters/1")["contributions"]
        assert {share["agent_name"] for share in shares} == {"ada", "bob", "cyd"}
        assert len(sent(cyd.home, "delta")) == 1
        events = operator.events(goes_on["id"])
        assert events.count("update-held") == 2
        assert "update-released" not in events
    assert update.review.answers[0].prompt not in ledger_text(cyd.home)
