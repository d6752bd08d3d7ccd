"""Agents with a recorded child at a real coordinator: failures on the way, and what remains afterwards."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CoordinatorRefused
from agent.ledger.entries import Request
from agent.ledger.outbound import Purpose
from agent.network.api import CoordinatorApi
from agent.orders.job import Done
from agent.orders.job_files import DELTA_FILE, RESULT_FILE
from coordinator.database.tables import BlobChunkRow
from shared.wire.agents import OwnCampaigns
from shared.wire.problems import ProblemType
from shared.wire.tasks.leases import TaskLease
from shared.wire.tasks.results import InitResult, Result, TrainResult
from tests.agent.parts import Home
from tests.support.ledgers import ledger_of
from tests.support.messages import training_metrics
from tests.support.operator import Operator
from tests.support.processes import RECORDED_CHILD, wait_until
from tests.support.scripted import campaign_body
from tests.support.server import RunningCoordinator

ONE = {"selection": {"minimum": 1}}
NewHome = Callable[[str], Home]


def record(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Set how children behave that start from now on."""
    monkeypatch.setenv("FEDLOOM_RECORDED", json.dumps(options))


def start_campaign(operator: Operator, **changes: Any) -> str:
    return str(operator.post("/v1/campaigns", campaign_body(**ONE, **changes))["id"])


def wait_for_training(operator: Operator, campaign_id: str) -> Any:
    """Wait until a train task reports progress, and return it."""

    def training() -> Any:
        tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks", state="leased")
        return next((task for task in tasks if task["kind"] == "train" and task["progress"]), None)

    return wait_until(training, "training")


def child_of(home: Home, campaign_id: str) -> int:
    """The child that trains in round 1."""
    found = wait_until(lambda: [*home.folder.glob(f"tasks/{campaign_id}.1.*/child.pid")], "the child")
    return int(wait_until(found[0].read_text, "the child's id"))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_everything_sent_is_recorded_and_only_the_last_rounds_files_remain(
    new_home: NewHome, operator: Operator
) -> None:
    home = new_home("ada")
    with home.running():
        campaign_id = start_campaign(operator, rounds=2)
        operator.wait_for(campaign_id, "completed")
        folders = lambda: [path.name.rpartition(".")[0] for path in (home.folder / "tasks").iterdir()]  # noqa: E731
        wait_until(lambda: folders() == [f"{campaign_id}.2"], "the last task's end at the agent")
    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert [line["sha256"] for line in home.sent("adapter")] == [adapters[0]["blob"]["sha256"]]
    assert [line["sha256"] for line in home.sent("delta")] == [
        adapter["contributions"][0]["update_sha256"] for adapter in adapters[1:]
    ]
    assert [line["kind"] for line in home.sent("result")] == ["prepare", "init", "train", "train"]
    assert home.error is None


def test_an_adapter_that_is_evaluated_is_there_when_its_training_begins(new_home: NewHome, operator: Operator) -> None:
    home = new_home("ada")
    with home.running():
        campaign_id = start_campaign(operator, rounds=2, evaluation={"every": 1})
        operator.wait_for(campaign_id, "completed")
    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert [line["kind"] for line in home.sent("result")].count("evaluate") == len(adapters) == 3
    requests = [entry.says for entry in ledger_of(home.folder) if isinstance(entry.says, Request)]
    downloaded = [each.path for each in requests if each.purpose is Purpose.DOWNLOAD]
    assert downloaded == [f"/v1/blobs/{adapter['blob']['sha256']}" for adapter in adapters]


@pytest.mark.deep
def test_a_rank_above_the_machines_is_refused_before_anything_is_done(new_home: NewHome, operator: Operator) -> None:
    home = new_home("ada")
    with (home.folder / "agent.toml").open("a") as settings:
        settings.write("[compute]\nmax_lora_rank = 1\n")
    with home.running():
        paused = operator.wait_for(start_campaign(operator, algorithm={"name": "fedavg"}), "paused")
        fits = operator.wait_for(start_campaign(operator, name="fits", lora={"rank": 1}), "completed")
    [ada] = paused["participants"]
    assert (ada["state"], ada["rank"]) == ("failed", None)
    assert ada["reason"].startswith(
        "refused by this agent's policy: lora.rank is 2, and compute.max_lora_rank = 1 (ask for a smaller lora.rank or"
    )
    assert [each["rank"] for each in fits["participants"]] == [1]


def test_ctrl_c_in_training_gives_the_task_back_and_ends_the_child(
    new_home: NewHome, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(monkeypatch, step_s=0.05)
    home = new_home("ada")
    with home.running():
        campaign_id = start_campaign(operator, training={"steps": 1000, "batch_size": 2})
        task = wait_for_training(operator, campaign_id)
        pid = child_of(home, campaign_id)
    [task] = [row for row in operator.items(f"/v1/campaigns/{campaign_id}/tasks") if row["id"] == task["id"]]
    assert task["state"] == "pending"
    assert not is_running(pid)
    assert home.error is None


@pytest.mark.deep
def test_a_cancelled_campaign_frees_the_agent_for_the_next(
    new_home: NewHome, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(monkeypatch, step_s=0.05)
    home = new_home("ada")
    with home.running():
        first = start_campaign(operator, training={"steps": 1000, "batch_size": 2})
        wait_for_training(operator, first)
        pid = child_of(home, first)
        assert operator.campaign(first, "cancel").is_success
        second = start_campaign(operator, name="second")
        operator.wait_for(second, "completed", timeout_s=30)
    assert not is_running(pid)


@pytest.mark.parametrize("data", [None, b""])
def test_a_finished_delta_that_is_not_whole_is_trained_again(
    new_home: NewHome, operator: Operator, monkeypatch: pytest.MonkeyPatch, data: bytes | None
) -> None:
    record(monkeypatch, step_s=0.05)
    home = new_home("ada")
    with home.running():
        campaign_id = start_campaign(operator, training={"steps": 20, "batch_size": 2})
        wait_for_training(operator, campaign_id)
    [folder] = home.folder.glob(f"tasks/{campaign_id}.1.*")
    done = Done(result=TrainResult(delta="a" * 64, metrics=training_metrics()))
    (folder / RESULT_FILE).write_text(done.model_dump_json())
    if data is not None:
        (folder / DELTA_FILE).write_bytes(data)
    record(monkeypatch)
    with home.running():
        operator.wait_for(campaign_id, "completed", timeout_s=30)
    assert home.error is None


def test_a_refusal_by_policy_is_reported_recorded_and_survived(new_home: NewHome, operator: Operator) -> None:
    home = new_home("ada")
    home.write_settings('[policy]\nbase_models = ["tiny"]\n')
    with home.running():
        refused = start_campaign(operator, base={"model": "other"})
        assert "policy.base_models" in operator.wait_for(refused, "paused", "failed", timeout_s=30)["reason"]
        allowed = start_campaign(operator, name="allowed")
        operator.wait_for(allowed, "completed", timeout_s=30)
    assert [line["kind"] for line in home.sent("failure")] == ["refused-by-policy"]


def test_a_broken_data_table_is_told_at_the_start_and_fails_only_the_tasks_that_name_it(
    new_home: NewHome, operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    home = new_home("ada")
    home.write_settings('[data.other]\npath = "notes.jsonl"\npromt = "q"\n')
    problem = "agent.toml, line 5: data.other.promt: there is no such setting; did you mean 'prompt'?"
    with home.running():
        failed = start_campaign(operator, data={"name": "other"})
        reason = operator.wait_for(failed, "paused", "failed", timeout_s=30)["reason"]
        assert "data.other: its table in agent.toml cannot be used (line 5): correct it" in reason
        assert "promt" not in reason
        usable = start_campaign(operator, name="usable")
        operator.wait_for(usable, "completed", timeout_s=30)
    assert f"{problem}; tasks on the data 'other' fail until it is corrected" in caplog.messages
    assert f"data: {problem}" in caplog.messages
    assert [line["kind"] for line in home.sent("failure")] == ["data"]


def test_a_revoked_agent_stops(new_home: NewHome, operator: Operator) -> None:
    home = new_home("ada")
    agent_id = home.workspace.read_identity().agent_id
    assert operator.http.post(f"/v1/agents/{agent_id}/revoke").is_success
    with home.running():
        wait_until(lambda: home.error, "the agent's end")
    assert isinstance(home.error, CoordinatorRefused)
    assert home.error.kind in (ProblemType.AGENT_REVOKED, ProblemType.UNAUTHENTICATED)


def test_adapters_that_do_not_fit_the_cache_are_used_all_the_same(new_home: NewHome, operator: Operator) -> None:
    home = new_home("ada")
    with home.workspace.settings_file.open("a") as file:
        file.write("[cache]\nmax_bytes = 0\n")
    with home.running():
        operator.wait_for(start_campaign(operator, rounds=3), "completed", timeout_s=30)
    cached: list[Path] = list(home.workspace.adapters.iterdir())
    assert len(cached) == 1


def test_a_corrupted_stored_adapter_is_reported_to_the_operator(
    new_home: NewHome, operator: Operator, coordinator: RunningCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_result = CoordinatorApi.put_result

    async def corrupt(sha256: str) -> None:
        async with coordinator.services.database.write("corrupt") as session:
            row = await session.get_one(BlobChunkRow, (sha256, 0))
            row.data = row.data[:-1] + bytes([row.data[-1] ^ 1])

    async def put_and_corrupt(api: CoordinatorApi, lease: TaskLease, result: Result) -> OwnCampaigns:
        campaigns = await put_result(api, lease, result)
        if isinstance(result, InitResult):  # the agent asks for the task that downloads it after this
            await asyncio.to_thread(coordinator.run, corrupt(result.adapter))
        return campaigns

    monkeypatch.setattr(CoordinatorApi, "put_result", put_and_corrupt)
    home = new_home("ada")
    with home.running():
        campaign_id = start_campaign(operator)
        tasks = f"/v1/campaigns/{campaign_id}/tasks"
        [failed] = wait_until(lambda: operator.items(tasks, state="failed"), "the failure")
    assert failed["failure"]["kind"] == "transfer"
    assert "does not match its digest" in failed["failure"]["message"]
    assert [line["kind"] for line in home.sent("failure")] == ["transfer"]
    assert home.error is None


MEETS_A_FULL_DISK = """
import os, sys
from agent.orders.protocol import Failed
from shared.wire.tasks.leases import Failure, FailureKind
from tests.support import recorded_child

def train(work, job):
    if not os.path.exists("{flag}"):
        open("{flag}", "w").close()
        (work.folder / "room.part").symlink_to("/dev/full")
        recorded_child.say(Failed(failure=Failure(kind=FailureKind.CRASH, message="OSError in the training process")))
        sys.exit(1)
    return real(work, job)

real, recorded_child.train = recorded_child.train, train
recorded_child.main()
"""


@pytest.mark.deep
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("where", ["download", "ledger", "training"])
def test_a_full_disk_is_reported_and_waited_for(
    new_home: NewHome, operator: Operator, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """/dev/full stands for a file on a full disk: each write fails with the same error."""
    home = new_home("ada")
    full: Path | None = None
    child = RECORDED_CHILD
    if where == "training":
        child = [sys.executable, "-c", MEETS_A_FULL_DISK.format(flag=home.folder / "flag")]

    def n_log_lines() -> int:
        return caplog.text.count("this agent's disk is full: [Errno 28] No space left on device")

    with home.running(child):
        if where == "download":  # the digest of adapter 0 is known from an identical campaign
            first = start_campaign(operator, name="first")
            operator.wait_for(first, "completed")
            for path in home.workspace.adapters.iterdir():
                path.unlink()
            sha256 = operator.items(f"/v1/campaigns/{first}/adapters")[0]["blob"]["sha256"]
            full = home.workspace.adapters / f"{sha256}.part"
        elif where == "ledger":
            full = home.folder / "ledger" / "999999999999.jsonl"
        if full is not None:
            full.symlink_to("/dev/full")
        campaign_id = start_campaign(operator)
        wait_until(lambda: n_log_lines() >= (2 if full else 1), "the agent's log line")
        if full is not None:
            full.unlink()
        operator.wait_for(campaign_id, "completed", timeout_s=60)
    tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    assert [task["state"] for task in tasks] == ["done"] * 3
    assert home.error is None
