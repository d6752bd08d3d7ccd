"""Leases: who holds a task and until when; an older attempt can do nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body, prepared
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]
PREPARED = prepared()


@contextmanager
def waiting(coordinator: RunningCoordinator, *agents: ScriptedAgent) -> Iterator[list[httpx.Response]]:
    """Requests for work that wait while the block runs. The yielded list holds the replies after the block."""
    replies: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda agent=agent: replies.append(agent.ask(30))) for agent in agents]
    for thread in threads:
        thread.start()
    keys = {agent.identity["agent_id"] for agent in agents}
    Operator.wait_until(lambda: set(coordinator.services.notifiers.tasks.keys), lambda found: found >= keys)
    yield replies
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.usefixtures("either_coordinator")
def test_a_lost_reply_gives_the_same_task_as_a_new_attempt(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
    lost = ada.lease("prepare")
    found = ada.lease("prepare")
    assert found["task_id"] == lost["task_id"]
    assert found["attempt"] == lost["attempt"] + 1
    for reply in (ada.renew(lost), ada.result(lost, PREPARED), ada.release(lost), ada.failure(lost, **CRASH)):
        assert (reply.status_code, problem(reply).kind) == (410, "lease-lost")
    mixed = {**found, "attempt": lost["attempt"]}
    assert ada.renew(mixed).status_code == 410
    assert ada.renew({**found, "token": lost["token"]}).status_code == 410
    assert ada.result(found, PREPARED).status_code == 200


def test_agents_are_told_the_day_on_which_a_campaign_was_created(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    created = operator.get(f"/v1/campaigns/{campaign_id}")["created_at"]
    either_coordinator.clock.move(3 * 24 * 3600)
    assert ada.lease("prepare")["assignment"]["created_on"] == created[:10]


CRASH = {"kind": "crash", "message": "it went away"}


def test_a_second_process_waits_until_the_lease_has_run_out(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
    first = ada.lease("prepare")
    refused = ada.ask(0, instance_id="another-process")
    assert (refused.status_code, problem(refused).kind) == (409, "agent-already-running")
    assert problem(refused).retryable
    assert int(refused.headers["Retry-After"]) > 0
    either_coordinator.clock.move(60)
    assert ada.renew(first).json()["directive"] == "continue"
    either_coordinator.clock.move(60)
    assert ada.ask(0, instance_id="another-process").status_code == 409
    either_coordinator.clock.move(31)
    second = ada.ask(10, instance_id="another-process")  # the sweeper may be releasing it at this moment
    assert second.status_code == 201
    assert second.json()["task_id"] == first["task_id"]
    assert ada.result(first, PREPARED).status_code == 410
    assert ada.result(second.json(), PREPARED).status_code == 200


def progress_of_open_tasks(operator: Operator, campaign_id: str) -> list[tuple[str, Any]]:
    tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    return [(task["state"], task["progress"]) for task in tasks if task["state"] in ("pending", "leased")]


@pytest.mark.usefixtures("coordinator")
def test_progress_is_shown_and_a_renewal_prolongs(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    lease = ada.lease("prepare")
    assert lease["renew_every_s"] == 30
    reply = ada.renew(lease, phase="tokenizing", done=3, total=7)
    assert reply.json()["expires_at"] > lease["expires_at"]
    task = operator.items(f"/v1/campaigns/{campaign_id}/tasks")[0]
    assert (task["state"], task["progress"]["phase"], task["progress"]["done"]) == ("leased", "tokenizing", 3)
    assert operator.get("/v1/agents/ada")["current_task_id"] == lease["task_id"]


LIVE = {
    "loss": 2.5,
    "tokens_per_s": 99.5,
    "seconds_left": 720.0,
    "peak_memory_bytes": 11 * 10**9,
    "gpu_memory_bytes": 24 * 10**9,
    "gpu_utilization": 0.875,
}


@pytest.mark.usefixtures("either_coordinator")
def test_what_an_owner_reports_live_is_shown_as_it_came(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    lease = ada.lease("prepare")
    assert ada.renew(lease, phase="training", done=3, total=7, **LIVE).status_code == 200
    [task] = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    assert task["progress"] == {"phase": "training", "done": 3, "total": 7, "metrics": {}, **LIVE}


@pytest.mark.usefixtures("coordinator")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seconds_left", value) for value in (-1.0, 3651 * 86400.0, 1e308, True)),
        *(("peak_memory_bytes", value) for value in (-1, 1 << 63, 1.5, True)),
        *(("gpu_memory_bytes", value) for value in (-1, 1 << 63)),
        *(("gpu_utilization", value) for value in (-0.01, 1.01, 1e308)),
        *(("tokens_per_s", value) for value in (-1.0, 1e308)),
        ("loss", True),
    ],
)
def test_numbers_that_cannot_be_are_refused(operator: Operator, enroll: Enroll, name: str, value: Any) -> None:
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    lease = ada.lease("prepare")
    reply = ada.renew(lease, phase="training", done=3, total=7, **{name: value})
    assert (reply.status_code, problem(reply).kind) == (422, "invalid")
    assert name in reply.text
    assert [task["progress"] for task in operator.items(f"/v1/campaigns/{campaign_id}/tasks")] == [None]


@pytest.mark.usefixtures("either_coordinator")
def test_another_agents_task_answers_as_a_lost_lease(operator: Operator, enroll: Enroll) -> None:
    ada, eve = enroll("ada"), enroll("eve")
    operator.post("/v1/campaigns", campaign_body())
    lease = ada.lease("prepare")
    replies = (eve.renew(lease), eve.result(lease, PREPARED), eve.release(lease), eve.failure(lease, **CRASH))
    assert {(reply.status_code, problem(reply).kind) for reply in replies} == {(410, "lease-lost")}
    assert ada.renew(lease).status_code == 200


def test_an_expired_lease_returns_the_task_to_the_same_agent(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    lease = ada.lease("prepare")
    bob.prepare()
    assert ada.renew(lease, phase="tokenizing", done=3, total=7).status_code == 200
    either_coordinator.clock.move(200)
    operator.wait_until(lambda: operator.events(campaign_id), lambda found: "lease-expired" in found)
    assert progress_of_open_tasks(operator, campaign_id) == [("pending", None)]
    assert ada.renew(lease).status_code == 410
    assert ada.result(lease, PREPARED).status_code == 410
    assert bob.ask(0).status_code == 204
    again = ada.lease("prepare")
    assert (again["task_id"], again["attempt"]) == (lease["task_id"], 2)


@pytest.mark.usefixtures("either_coordinator")
def test_a_released_task_is_available_again_at_once(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    lease = ada.lease("prepare")
    assert ada.renew(lease, phase="tokenizing", done=3, total=7).status_code == 200
    assert ada.release(lease).status_code == 204
    assert progress_of_open_tasks(operator, campaign_id) == [("pending", None)]
    assert ada.release(lease).status_code == 410
    reply = ada.ask(0, instance_id="another-process")
    assert (reply.status_code, reply.json()["attempt"]) == (201, 2)
    assert "task-released" in operator.events(campaign_id)


def test_a_waiting_agent_is_woken_by_a_task(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada = enroll("ada")
    with waiting(coordinator, ada) as replies:
        began = time.monotonic()
        operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
    assert time.monotonic() - began < 5
    assert replies[0].status_code == 201


@pytest.mark.usefixtures("coordinator")
def test_without_work_the_reply_is_empty(enroll: Enroll) -> None:
    ada = enroll("ada")
    began = time.monotonic()
    reply = ada.ask(0.3)
    assert 0.2 < time.monotonic() - began < 5
    assert (reply.status_code, reply.content) == (204, b"")
    assert int(reply.headers["Retry-After"]) > 0
    without = ada.http.post("/v1/leases", json={"instance_id": ada.instance_id, "version": "test"})
    assert without.status_code == 204


def test_a_request_that_waited_takes_no_lease_from_a_later_one(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada = enroll("ada")
    twin = httpx.Client(base_url=ada.http.base_url, headers=ada.http.headers, timeout=30)
    with waiting(either_coordinator, ada) as replies:
        body = {"instance_id": ada.instance_id, "version": "test"}
        pool = ThreadPoolExecutor(1)
        other = pool.submit(twin.post, "/v1/leases", json=body, headers={"Prefer": "wait=2"})
        notifiers = either_coordinator.services.notifiers.tasks
        operator.wait_until(lambda: len(notifiers._waiting[ada.identity["agent_id"]]), lambda found: found == 2)
        operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
        second = other.result(30)
        if second.status_code == 201:
            assert ada.renew(second.json()).status_code == 200
            either_coordinator.services.notifiers.close()  # the other one still waits: its instance holds the task
    granted = [reply for reply in (*replies, second) if reply.status_code == 201]
    assert [reply.json()["attempt"] for reply in granted] == [1]
    assert ada.renew(granted[0].json()).status_code == 200
    twin.close()


def test_waiting_agents_hold_no_database_connection(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    agents = [enroll(f"agent-{number:02}") for number in range(32)]
    with waiting(either_coordinator, *agents) as replies:
        began = time.monotonic()
        for _ in range(10):
            operator.items("/v1/agents")
        assert time.monotonic() - began < 10
        for engine in {either_coordinator.services.database._writer, either_coordinator.services.database._reader}:
            operator.wait_until(lambda engine=engine: engine.pool.checkedout(), lambda found: found <= 2)
        operator.post("/v1/campaigns", campaign_body(selection={"minimum": 32}))
    assert [reply.status_code for reply in replies] == [201] * 32


def test_one_agent_never_gets_two_tasks(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada = enroll("ada")
    ids = [operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"] for _ in range(3)]

    def tasks() -> list[Any]:
        return [task for campaign_id in ids for task in operator.items(f"/v1/campaigns/{campaign_id}/tasks")]

    operator.wait_until(lambda: len(tasks()), lambda found: found == 3)
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda number: ada.ask(0, instance_id=f"process-{number}"), range(6)))
    assert sorted(reply.status_code for reply in replies if reply.status_code != 204) == [201] + [409] * (
        sum(reply.status_code != 204 for reply in replies) - 1
    )
    assert [task["state"] for task in tasks()].count("leased") == 1


def test_renewing_a_cancelled_task_returns_the_cancel_directive(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob])
    lease = ada.lease("train")
    uploaded = ada.upload(lease, "delta", adapter_bytes(tmp_path, 1.0))
    assert operator.campaign(campaign_id, "cancel").status_code == 200
    renewed = ada.renew(lease)
    assert (renewed.status_code, renewed.json()["directive"]) == (200, "cancel")
    for reply in (ada.result(lease, ada.train_result(uploaded)), ada.release(lease), ada.failure(lease, **CRASH)):
        assert (reply.status_code, problem(reply).kind) == (410, "lease-lost")
    assert bob.ask(0).status_code == 204
