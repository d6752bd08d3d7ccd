"""Coordinator and agents as separate processes, with a recorded child."""

from pathlib import Path

import pytest

from tests.support.ledgers import sent
from tests.support.processes import (
    AgentProcess,
    CoordinatorProcess,
    EngineProcess,
    QuickAgent,
    QuickCoordinator,
    ended,
)
from tests.support.scripted import campaign_body


@pytest.mark.parametrize(
    ("coordinator_process", "agent_process"),
    [
        pytest.param(QuickCoordinator, QuickAgent, id="forked"),
        pytest.param(CoordinatorProcess, AgentProcess, id="cold", marks=pytest.mark.deep),
    ],
)
def test_a_campaign_runs_through(
    tmp_path: Path, coordinator_process: type[CoordinatorProcess], agent_process: type[AgentProcess]
) -> None:
    coordinator = coordinator_process(tmp_path / "coordinator")
    with ended(coordinator):
        agents = [
            agent_process.recorded_one(coordinator, tmp_path, name, 10 * (number + 1))
            for number, name in enumerate(("ada", "bob", "cyd"))
        ]
        with ended(*agents):
            for agent in agents:
                agent.start()
            operator = coordinator.operator
            campaign_id = operator.post("/v1/campaigns", campaign_body(rounds=3, evaluation={"every": 1}))["id"]
            operator.wait_for(campaign_id, "completed")
            adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
            assert [agent.process.stop() for agent in agents] == [0, 0, 0]
        assert coordinator.process.stop() == 0
    assert [share["n_examples"] for share in adapters[3]["contributions"]] == [10, 20, 30]
    assert [upload["sha256"] for upload in sent(agents[0].home, "delta")] == [
        adapter["contributions"][0]["update_sha256"] for adapter in adapters[1:]
    ]
    [kept] = (agents[0].home / "tasks").iterdir()
    assert kept.name.startswith(f"{campaign_id}.3."), "only the last round's, which another attempt would send again"
    assert {path.name for path in kept.iterdir()} == {"result.json", "delta.safetensors", "child.pid"}
    for secret in ("fla_", "fle_"):
        assert secret not in coordinator.process.printed()
    assert (agents[0].home / "identity.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.deep
def test_the_engine_runs_as_its_own_process(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator", serve=["--no-engine"])
    engine = EngineProcess(coordinator)
    agents = [QuickAgent.recorded_one(coordinator, tmp_path, name) for name in ("ada", "bob")]
    with ended(coordinator, engine, *agents):
        for agent in agents:
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", campaign_body(rounds=2))["id"]
        operator.wait_for(campaign_id, "completed")
        assert engine.process.stop() == 0
