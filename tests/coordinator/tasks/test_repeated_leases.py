"""An agent that takes its task again and again: what that adds to the database and the log is bounded."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from coordinator.database.tables import EventRow, TaskRow
from coordinator.settings import LeaseSettings, LimitSettings, Settings
from coordinator.tasks.leases import _is_recorded, _pause_s
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.server import RunningCoordinator, quick_settings

Enroll = Callable[..., ScriptedAgent]
TTL_S = 90.0
_UNLIMITED = LimitSettings(agent_requests_per_s=100_000)
"""So that the limit of requests does not come before those of leases."""


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return lambda data_dir, database_url: quick_settings(
        data_dir, database_url, limits=_UNLIMITED, max_pause_s=60.0, ttl_s=TTL_S
    )


def begin(operator: Operator, enroll: Enroll) -> tuple[ScriptedAgent, str]:
    ada = enroll("ada")
    return ada, operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]


async def rows(coordinator: RunningCoordinator) -> int:
    """The number of events and tasks."""
    fetch = coordinator.services.database.fetch
    [(events,)] = await fetch(select(func.count()).select_from(EventRow))
    [(tasks,)] = await fetch(select(func.count()).select_from(TaskRow))
    return int(events) + int(tasks)


def test_taking_and_giving_back_a_task_in_a_loop_adds_next_to_nothing(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, caplog: pytest.LogCaptureFixture
) -> None:
    ada, _ = begin(operator, enroll)
    ada.release(ada.lease("prepare"))
    before = either_coordinator.run(rows(either_coordinator))
    caplog.clear()
    caplog.set_level(logging.INFO, "coordinator")
    n_leases, n_requests, began = 0, 0, time.monotonic()
    while time.monotonic() - began < 2.5 or n_requests < 200:
        reply = ada.ask(0)
        n_requests += 1
        if reply.status_code == 201:
            n_leases += 1
            assert ada.release(reply.json()).status_code == 204
    assert 1 <= n_leases <= 3  # at 0 s, after 1 s, and 2 s later
    assert either_coordinator.run(rows(either_coordinator)) <= before + 2 * n_leases
    assert len([each for each in caplog.records if each.levelno >= logging.INFO]) <= 2 * n_leases
    either_coordinator.clock.move(61)
    assert ada.lease("prepare")["attempt"] == n_leases + 2


@pytest.mark.deep
def test_a_thousand_leases_of_one_task_are_a_score_of_events(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada, campaign_id = begin(operator, enroll)
    for number in range(1, 41):
        lease = ada.lease("prepare") if number % 2 else ada.ask(10, instance_id="another-process").json()
        assert lease["attempt"] == number
        if number % 4 == 0:
            either_coordinator.clock.move(TTL_S + 5)
            operator.wait_until(
                lambda: operator.items(f"/v1/campaigns/{campaign_id}/tasks")[0]["state"],
                lambda state: state == "pending",
            )
        else:
            assert ada.release(lease).status_code == 204
            either_coordinator.clock.move(61)
    events = operator.items(f"/v1/campaigns/{campaign_id}/events")
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    leased = [event["data"]["attempt"] for event in events if event["type"] == "task-leased"]
    ended = [event["data"]["attempt"] for event in events if event["type"] in ("task-released", "lease-expired")]
    assert leased == ended == [1, 2, 3, 4, 8, 16, 32]
    assert sum(map(_is_recorded, range(1, 1001))) == 11


def test_the_pause_between_leases_doubles_up_to_its_limit() -> None:
    def pauses(**settings: float) -> list[float]:
        return [_pause_s(attempt, LeaseSettings(**settings)) for attempt in (1, 2, 3, 4, 8, 9, 10**9)]

    assert pauses() == [0, 1, 2, 4, 60, 60, 60]
    assert pauses(max_pause_s=3) == [0, 1, 2, 3, 3, 3, 3]
    assert pauses(max_pause_s=0) == [0] * 7
    assert pauses(ttl_s=9) == [0, 1, 2, 4, 6, 6, 6], "a lease that expired is granted again at once"


def test_a_request_waits_for_the_end_of_its_tasks_pause(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada, _ = begin(operator, enroll)
    for _ in range(2):
        ada.release(ada.lease("prepare"))
    began = time.monotonic()
    assert ada.lease("prepare", 10)["attempt"] == 3
    assert 0.5 < time.monotonic() - began < 5
    other = ada.ask(0, instance_id="another-process")
    assert other.status_code == 409  # said at once, whatever the pause


def test_another_task_is_granted_while_one_pauses(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada, _ = begin(operator, enroll)
    leases: list[Any] = []
    second = operator.post("/v1/campaigns", campaign_body(name="second", selection={"minimum": 1}))["id"]
    operator.wait_until(lambda: operator.events(second), lambda events: "agent-invited" in events)  # the pause is short
    for _ in range(2):
        leases.append(ada.lease("prepare"))
        assert ada.release(leases[-1]).status_code == 204
    assert ada.lease("prepare")["task_id"] not in {each["task_id"] for each in leases}


@pytest.mark.usefixtures("either_coordinator")
def test_of_renewals_in_a_loop_few_are_written(operator: Operator, enroll: Enroll) -> None:
    ada, campaign_id = begin(operator, enroll)
    lease = ada.lease("prepare")
    ends = [ada.renew(lease, phase="tokenizing", done=number, total=50).json()["expires_at"] for number in range(50)]
    assert ends == sorted(ends)
    assert len(set(ends)) < 15
    [task] = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    assert task["progress"]["phase"] == "tokenizing"
    time.sleep(0.6)
    ada.renew(lease, phase="tokenizing", done=50, total=50)
    [task] = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    assert task["progress"]["done"] == 50
    events = operator.events(campaign_id)
    assert events == ["campaign-created", "agent-invited", "task-leased"]


@pytest.mark.usefixtures("either_coordinator")
def test_a_failure_is_one_short_line_in_the_log(
    operator: Operator, enroll: Enroll, caplog: pytest.LogCaptureFixture
) -> None:
    ada, _ = begin(operator, enroll)
    caplog.set_level(logging.INFO, "coordinator")
    assert ada.failure(ada.lease("prepare"), kind="crash", message="one two " + "x" * 3900).status_code == 200
    [line] = [each.getMessage() for each in caplog.records if "task-failed" in each.getMessage()]
    assert line.isprintable()
    assert len(line) < 1500
