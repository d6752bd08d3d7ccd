"""kill -9, cuts and absences: the campaign still ends, with the digest of the unbroken run."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.wire.base import CHUNK_BYTES
from tests.support.operator import Operator
from tests.support.processes import QuickAgent, QuickCoordinator, ended, wait_until
from tests.support.scripted import campaign_body

pytestmark = pytest.mark.fault

ROWS = {"ada": 10, "bob": 30}
CAMPAIGN = campaign_body(rounds=2, training={"steps": 10, "batch_size": 2, "seed": 7}, evaluation={"every": 1})
LEASE_TTL = {"FEDLOOM_LEASE__TTL_S": "3"}


def make_agents(coordinator: QuickCoordinator, folder: Path, **recorded: object) -> dict[str, QuickAgent]:
    return {
        name: QuickAgent.recorded_one(coordinator, folder, name, n_rows, **recorded) for name, n_rows in ROWS.items()
    }


def final_digest(operator: Operator, campaign_id: str) -> str:
    campaign = operator.wait_for(campaign_id, "completed")
    assert campaign["rounds_closed"] == 2
    adapter = operator.get(f"/v1/campaigns/{campaign_id}/adapters/2")
    assert len(adapter["contributions"]) == 2
    return str(adapter["blob"]["sha256"])


def printed_by_ada(folder: Path, **recorded: object) -> str:
    """What an agent printed in a campaign that went to its end."""
    coordinator = QuickCoordinator(folder / "coordinator")
    agents = make_agents(coordinator, folder, **recorded)
    with ended(coordinator, *agents.values()):
        for agent in agents.values():
            agent.start()
        campaign_id = coordinator.operator.post("/v1/campaigns", CAMPAIGN)["id"]
        final_digest(coordinator.operator, campaign_id)
    return (folder / "ada.log").read_text()


def run_with(folder: Path, disturb: Callable[[QuickCoordinator, dict[str, QuickAgent], str], None]) -> str:
    coordinator = QuickCoordinator(folder / "coordinator", **LEASE_TTL)
    agents = make_agents(coordinator, folder, step_s=0.1)
    with ended(coordinator, *agents.values()):
        for agent in agents.values():
            agent.start()
        campaign_id = coordinator.operator.post("/v1/campaigns", CAMPAIGN)["id"]
        disturb(coordinator, agents, campaign_id)
        return final_digest(coordinator.operator, campaign_id)


@pytest.fixture(scope="module")
def unbroken_digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run_with(tmp_path_factory.mktemp("unbroken"), lambda *_: None)


def wait_for_training(operator: Operator, campaign_id: str, round_number: int) -> None:
    def training() -> bool:
        tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks", state="leased", round=round_number)
        return any(task["kind"] == "train" and (task["progress"] or {}).get("done", 0) >= 1 for task in tasks)

    wait_until(training, "an agent in training")


@pytest.mark.deep
def test_agent_killed_in_training(tmp_path: Path, unbroken_digest: str) -> None:
    def disturb(coordinator: QuickCoordinator, agents: dict[str, QuickAgent], campaign_id: str) -> None:
        wait_for_training(coordinator.operator, campaign_id, 1)
        agents["ada"].process.kill()
        agents["ada"].start()

    assert run_with(tmp_path, disturb) == unbroken_digest


@pytest.mark.deep
def test_coordinator_killed_with_a_round_open(tmp_path: Path, unbroken_digest: str) -> None:
    def disturb(coordinator: QuickCoordinator, agents: dict[str, QuickAgent], campaign_id: str) -> None:
        wait_for_training(coordinator.operator, campaign_id, 2)
        coordinator.process.kill()
        coordinator.start()

    assert run_with(tmp_path, disturb) == unbroken_digest


@pytest.mark.deep
def test_coordinator_away_for_longer_than_a_lease_lives(tmp_path: Path, unbroken_digest: str) -> None:
    def disturb(coordinator: QuickCoordinator, agents: dict[str, QuickAgent], campaign_id: str) -> None:
        wait_for_training(coordinator.operator, campaign_id, 1)
        coordinator.process.kill()
        time.sleep(5)  # the absence must be real: agents finish training, cannot connect, and wait
        coordinator.start()

    assert run_with(tmp_path, disturb) == unbroken_digest
    assert "the task continues meanwhile" in (tmp_path / "ada.log").read_text()


@pytest.mark.deep
def test_agent_interrupted_in_training_gives_its_task_back(tmp_path: Path, unbroken_digest: str) -> None:
    def disturb(coordinator: QuickCoordinator, agents: dict[str, QuickAgent], campaign_id: str) -> None:
        wait_for_training(coordinator.operator, campaign_id, 1)
        assert agents["bob"].process.stop() == 0
        agents["bob"].start()

    assert run_with(tmp_path, disturb) == unbroken_digest


@pytest.mark.deep
def test_agent_killed_at_60_percent_of_a_100_mb_upload_resends_one_chunk_at_most(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    ada = QuickAgent.recorded_one(coordinator, tmp_path, "ada", size=12_500_000)  # rank 2, float32: 100 MB
    chunk = re.compile(r"upload (\w+): (\d+) bytes at (\d+) of (\d+)")

    def chunks_of_deltas() -> list[tuple[str, int, int]]:
        printed = coordinator.process.printed()
        deltas = set(re.findall(r"upload (\w+) of delta", printed))
        return [(u, int(n), int(at)) for u, n, at, _ in chunk.findall(printed) if u in deltas]

    with ended(coordinator, ada):
        ada.start()
        operator = coordinator.operator
        body = campaign_body(rounds=1, training={"steps": 1}, selection={"minimum": 1})
        campaign_id = operator.post("/v1/campaigns", body)["id"]
        wait_until(lambda: sum(n for _, n, _ in chunks_of_deltas()) > 60e6, "60% of the delta")
        ada.process.kill()
        ada.start()
        operator.wait_for(campaign_id, "completed")
        sent = chunks_of_deltas()
        total = sum(n for _, n, _ in sent)
        [adapter] = operator.items(f"/v1/campaigns/{campaign_id}/adapters")[1:]
    assert len({upload for upload, _, _ in sent}) == 1
    assert len({at for _, _, at in sent}) >= len(sent) - 1
    assert total <= adapter["blob"]["n_bytes"] + CHUNK_BYTES
    assert ada.process.printed().count("training 1/1") == 1, "the finished training was repeated"


@pytest.mark.parametrize("die_of", ["exit", pytest.param("memory", marks=pytest.mark.deep)])
def test_out_of_memory_halves_the_micro_batch_and_remembers(tmp_path: Path, die_of: str) -> None:
    printed = printed_by_ada(tmp_path, fits=1, die_of=die_of)
    halved = [("16", "8"), ("8", "4"), ("4", "2"), ("2", "1")]
    assert re.findall(r"out of memory with a micro-batch of (\d+); trying (\d+)", printed) == halved


def test_out_of_memory_with_one_row_has_the_layers_computed_again(tmp_path: Path) -> None:
    """What counts is the number of rows that went through the model at once, not the most that might have."""
    printed = printed_by_ada(tmp_path, fits=0, at_once=1, recomputes=True)
    assert "out of memory with one row at a time; computing layers again in the backward pass" in printed
    assert "out of memory with a micro-batch" not in printed


@pytest.mark.deep
def test_out_of_memory_with_one_row_is_a_failure_that_says_so(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = make_agents(coordinator, tmp_path, fits=0, die_of="exit")
    with ended(coordinator, *agents.values()):
        for agent in agents.values():
            agent.start()
        campaign_id = coordinator.operator.post("/v1/campaigns", CAMPAIGN)["id"]
        campaign = coordinator.operator.wait_for(campaign_id, "paused")
    assert (
        "out of memory at a peak of 1.0 GiB with one row at a time; the longest row has 77 tokens" in campaign["reason"]
    )


@pytest.mark.deep
def test_a_copy_of_the_agent_is_kept_off_while_the_first_one_works(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = make_agents(coordinator, tmp_path, step_s=0.2)
    copy = QuickAgent(tmp_path / "copy", agents["ada"]._child)
    with ended(coordinator, *agents.values(), copy):
        for agent in agents.values():
            agent.start()
        campaign_id = coordinator.operator.post("/v1/campaigns", CAMPAIGN)["id"]
        wait_for_training(coordinator.operator, campaign_id, 1)
        shutil.copytree(agents["ada"].home, copy.home)
        copy.start()
        copy.process.wait_to_print("another process of agent ada holds a lease")
        assert copy.process.stop() == 0
        final_digest(coordinator.operator, campaign_id)


def test_a_second_process_in_the_same_home_is_refused(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = make_agents(coordinator, tmp_path)
    with ended(coordinator, *agents.values()):
        agents["ada"].start()
        agents["ada"].process.wait_to_print("waiting for work")
        first = agents["ada"].process
        agents["ada"].start()
        second = agents["ada"].process
        try:
            assert second.popen.wait(20) != 0
            assert "another agent process is running in" in second.printed()
        finally:
            first.stop()


@pytest.mark.deep
def test_a_nan_is_refused_and_reported_on_both_sides(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = make_agents(coordinator, tmp_path)
    cyd = QuickAgent.recorded_one(coordinator, tmp_path, "cyd", nan=True)
    with ended(coordinator, *agents.values(), cyd):
        for agent in (*agents.values(), cyd):
            agent.start()
        campaign_id = coordinator.operator.post("/v1/campaigns", CAMPAIGN)["id"]
        final_digest(coordinator.operator, campaign_id)
        failed = coordinator.operator.items(f"/v1/campaigns/{campaign_id}/tasks", state="failed")
    assert {task["agent_name"] for task in failed} == {"cyd"}
    expected = "base_model.model.layer.lora_A.weight: holds NaN"
    assert expected in failed[0]["failure"]["message"]
    assert expected in (tmp_path / "cyd.log").read_text()
