"""The reply that grants a task again is lost: its holder gets the task at once, and works on."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.network.heartbeat import LeaseHeartbeat
from coordinator.settings import Settings
from shared.wire.tasks.leases import Progress, TaskLease
from tests.support.ledgers import api_of
from tests.support.operator import Operator
from tests.support.proxy import FaultyProxy
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.server import RunningCoordinator, quick_settings

TTL_S = 90.0


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return lambda data_dir, database_url: quick_settings(data_dir, database_url, max_pause_s=60.0, ttl_s=TTL_S)


@pytest.mark.parametrize(("attempts", "n_lost"), [(1, 1), (2, 2), (7, 3)])
def test_an_agent_whose_grants_are_lost_keeps_its_task(
    either_coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Callable[..., ScriptedAgent],
    attempts: int,
    n_lost: int,
) -> None:
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    for _ in range(attempts - 1):
        ada.release(ada.lease("prepare"))
        either_coordinator.clock.move(61)
    lease = TaskLease.model_validate(ada.lease("prepare"), extra="ignore")
    assert lease.attempt == attempts
    either_coordinator.clock.move(TTL_S + 5)  # the agent's host slept
    operator.wait_until(
        lambda: operator.items(f"/v1/campaigns/{campaign_id}/tasks")[0]["state"], lambda state: state == "pending"
    )

    async def work(url: str) -> int:
        api = api_of(url, ada.identity["secret"])
        heartbeat = LeaseHeartbeat(api, ada.instance_id, lease)

        async def renew(current: TaskLease) -> int:
            await api.renew(current, Progress(phase="tokenizing"))
            return current.attempt

        try:
            async with asyncio.timeout(30):
                return await heartbeat.call(renew)  # TaskGone would stop the training
        finally:
            await api.close()

    with FaultyProxy(int(either_coordinator.url.rpartition(":")[2]), seed=1) as proxy:
        for _ in range(n_lost):
            proxy.drop_replies("POST", "/v1/leases")
        assert asyncio.run(work(f"http://127.0.0.1:{proxy.port}")) == attempts + n_lost + 1
        assert len(proxy.of_fate("reply dropped")) == n_lost
    events = operator.items(f"/v1/campaigns/{campaign_id}/events")
    assert len([each for each in events if each["type"] == "task-leased"]) <= 5


def test_a_task_that_was_given_back_waits_and_a_held_one_does_not(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Callable[..., ScriptedAgent]
) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
    for wait_s in (10, 0, 0, 0):
        held = ada.lease("prepare", wait_s)
    assert held["attempt"] == 4
    assert ada.ask(0, instance_id="another-process").status_code == 409
    assert ada.release(held).status_code == 204
    assert ada.ask(0).status_code == 204
    either_coordinator.clock.move(5)
    assert ada.lease("prepare", 0)["attempt"] == 5
