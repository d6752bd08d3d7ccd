"""A signing key that is rotated while agents train: they follow it, and say so; a lost one they refuse."""

import sys
from pathlib import Path

import pytest

from tests.support.forks.preloaded import run
from tests.support.operator import Operator
from tests.support.processes import QuickAgent, QuickCoordinator, ended
from tests.support.scripted import campaign_body


def fedloom(*arguments: object) -> str:
    done = run([sys.executable, "-m", "fedloom", *map(str, arguments)], COLUMNS="100")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def closed(operator: Operator, campaign_id: str, number: int) -> None:
    operator.wait_until(
        lambda: operator.get(f"/v1/campaigns/{campaign_id}")["rounds_closed"], lambda closed: closed >= number
    )


@pytest.mark.deep
def test_agents_follow_a_rotation_and_refuse_a_key_that_nobody_signed(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    coordinator.start()
    agents = [QuickAgent.recorded_one(coordinator, tmp_path, name, step_s=0.05) for name in ("ada", "bob")]
    operator = coordinator.operator
    with ended(coordinator, *agents):
        for agent in agents:
            agent.start()
        first = operator.post("/v1/campaigns", campaign_body(rounds=4, training={"steps": 4, "batch_size": 2}))["id"]
        closed(operator, first, 1)
        before = fedloom("coordinator", "signing-key", "--data-dir", coordinator.data)
        rotated = fedloom("coordinator", "rotate-signing-key", "--data-dir", coordinator.data)
        assert rotated != before
        operator.wait_for(first, "completed")
        for agent in agents:
            assert "the coordinator signs by a new key" in agent.process.printed()
            assert fedloom("agent", "fingerprint", "--home", agent.home) == rotated
        lines = {fedloom("agent", "fingerprint", first, "--home", agent.home) for agent in agents}
        assert len(lines) == 1

        (coordinator.data / "signing.key").unlink()
        fedloom("coordinator", "rotate-signing-key", "--lost", "--data-dir", coordinator.data)
        second = operator.post("/v1/campaigns", campaign_body(name="second"))["id"]
        operator.wait_for(second, "paused")
        assert "is signed by another key" in operator.get(f"/v1/campaigns/{second}")["reason"]
        refused = run([sys.executable, "-m", "fedloom", "agent", "fingerprint", "--home", str(agents[0].home)])
        assert refused.returncode == 1
        assert refused.stdout == rotated, "the key that it still trusts"
        assert "the coordinator signs by another key" in " ".join(refused.stderr.split())


@pytest.mark.deep
def test_after_a_rotation_alone_owners_still_see_the_same_line(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    coordinator.start()
    agents = [QuickAgent.recorded_one(coordinator, tmp_path, name) for name in ("ada", "bob")]
    operator = coordinator.operator
    with ended(coordinator, *agents):
        for agent in agents:
            agent.start()
        campaign = operator.post("/v1/campaigns", campaign_body(rounds=1))["id"]
        operator.wait_for(campaign, "completed")
        for agent in agents:
            fedloom("agent", "fingerprint", campaign, "--home", agent.home)
        rotated = fedloom("coordinator", "rotate-signing-key", "--data-dir", coordinator.data)
        [first, second] = agents
        assert fedloom("agent", "fingerprint", "--home", first.home) == rotated
        lines = {fedloom("agent", "fingerprint", campaign, "--home", agent.home) for agent in (second, first)}
        assert len(lines) == 1
