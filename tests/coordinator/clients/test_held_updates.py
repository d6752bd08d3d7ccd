"""Updates that their owners hold: what the round does without them, and what becomes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.settings import Settings
from tests.support.driven import (
    DEADLINE_S,
    LATE_COUNTS,
    NAMES,
    DrivenCampaign,
    late_in,
    miss_the_deadline,
    patient_settings,
    too_late_for,
)
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]

HELD_BY_CYD = "the update of cyd is held by its owner"


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return patient_settings


def hold(agent: ScriptedAgent) -> dict[str, Any]:
    """Have an agent hold its update. Returns the lease that it had."""
    lease = agent.lease("train")
    reply = agent.hold(lease)
    assert reply.status_code == 204, reply.text
    return lease


def check_over(agent: ScriptedAgent, task_id: str, number: int) -> None:
    """Check that a held update is refused, as it can count nowhere."""
    refused = agent.let_go(task_id)
    assert (refused.status_code, problem(refused).kind) == (409, "illegal-move")
    words = f"round {number} is over and did not wait for this update, which counts nowhere"
    assert problem(refused).detail == words


def states(campaign: DrivenCampaign, name: str) -> list[tuple[int, str]]:
    return [(task["round"], task["state"]) for task in campaign.tasks(name)]


@pytest.mark.usefixtures("either_coordinator")
def test_a_round_with_the_minimum_closes_without_a_held_update(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    rules = {"set_aside_after": 1, "set_aside_rounds": 9}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=2, stragglers=rules)
    for number in (1, 2):
        held = hold(cyd)
        [client] = [each for each in operator.items(f"{campaign.path}/clients") if each["agent_name"] == "cyd"]
        assert client["held_round"] == number
        campaign.train(ada)
        campaign.train(bob)
        campaign.wait_until_closed(number)
        check_over(cyd, held["task_id"], number)
    campaign.wait_for("completed")
    assert states(campaign, "cyd") == [(1, "cancelled"), (2, "cancelled")]
    assert [task["failure"] for task in campaign.tasks("cyd")] == [None, None]
    assert campaign.part("cyd")["failures_in_a_row"] == 0, "an owner's word is no failure"
    assert [each["round"] for each in campaign.events("update-held")] == [1, 2]
    assert campaign.events("update-released") == campaign.events("agent-set-aside") == []


def test_nobody_is_drawn_in_place_of_a_held_update_and_the_round_waits_for_others_at_work(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """A failure is replaced; a held update is not, and the round closes when those at work are done."""
    agents = {name: enroll(name) for name in NAMES[:4]}
    selection = {"minimum": 1, "clients_per_round": 3}
    campaign = DrivenCampaign.begun(operator, tmp_path, list(agents.values()), rounds=1, selection=selection)
    first, second, third = (NAMES[number] for number in campaign.wait_until_open(1)["sampled"])
    hold(agents[first])
    campaign.train(agents[second])
    coordinator.services.notifiers.wake_engine()
    assert campaign.detail()["rounds_closed"] == 0, "somebody is still at work"
    campaign.train(agents[third])
    campaign.wait_for("completed")
    assert set(campaign.shares(1)) == {second, third}
    assert campaign.events("client-replaced") == []


@pytest.mark.usefixtures("either_coordinator")
def test_a_released_update_counts_in_its_round(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = agents = [enroll(name) for name in NAMES[:2]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1)
    held = hold(bob)
    assert bob.hold(held).status_code == 204, "as if the reply was lost"
    campaign.train(ada)
    campaign.wait_for_reason("round 1 has 1 of at least 2 updates; the update of bob is held by its owner")
    assert bob.ask(0).status_code == 204, "a held task is granted to nobody"
    for _ in range(2):
        assert bob.let_go(held["task_id"]).json() == {"state": "pending"}
    again = bob.lease("train")
    assert (again["task_id"], again["attempt"]) == (held["task_id"], held["attempt"] + 1)
    assert bob.let_go(held["task_id"]).json() == {"state": "leased"}
    campaign.train(bob, again)
    campaign.wait_for("completed")
    assert bob.let_go(held["task_id"]).json() == {"state": "done"}
    assert set(campaign.shares(1)) == {"ada", "bob"}
    assert campaign.detail()["reason"] is None
    events = operator.events(campaign.id)
    assert [events.count(each) for each in ("update-held", "update-released", "task-released")] == [1, 1, 0]


def test_a_lease_that_ended_in_a_hold_does_nothing_more(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """Nothing that the agent may still send under it undoes the hold; nor does time, and what was uploaded is gone."""
    ada, bob = agents = [enroll(name) for name in NAMES[:2]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, deadline={"round_s": 1e7})
    lease = bob.lease("train")
    data = adapter_bytes(tmp_path, 1.0)
    digest = bob.upload(lease, "delta", data)
    assert bob.hold(lease).status_code == 204
    assert [
        bob.renew(lease).status_code,
        bob.release(lease).status_code,
        bob.result(lease, bob.train_result(digest)).status_code,
        bob.failure(lease, kind="crash", message="x").status_code,
        bob.start_upload(lease, "delta", data).status_code,
    ] == [410] * 5
    coordinator.clock.move(2e6)
    campaign.train(ada)
    campaign.wait_for_reason("is held by its owner")
    assert states(campaign, "bob") == [(1, "held")]
    assert bob.let_go(lease["task_id"]).status_code == 200
    again = bob.lease("train")
    assert bob.result(again, bob.train_result(digest)).status_code == 422, "the upload was deleted"
    campaign.train(bob, again)
    campaign.wait_for("completed")


@pytest.mark.usefixtures("coordinator")
def test_only_its_own_agent_releases_an_update_and_only_updates_are_held(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign(operator, tmp_path, rounds=1)
    prepare = ada.lease("prepare")
    assert ada.hold(prepare).status_code == 422
    assert ada.result(prepare, {"kind": "prepare"}).status_code == 422, "it is still leased"
    ada.release(prepare)
    ada.prepare()
    bob.prepare()
    campaign.init(ada)
    held = hold(bob)
    for stranger, status in ((ada, 404), (operator, 403)):
        assert stranger.http.put(f"/v1/agents/me/tasks/{held['task_id']}/release").status_code == status
    assert ada.hold(held).status_code == 410
    assert ada.let_go("no-such-task").status_code == 404
    assert states(campaign, "bob") == [(1, "held")]
    leased = ada.lease("train")
    assert ada.let_go(leased["task_id"]).status_code == 200
    assert states(campaign, "ada") == [(1, "leased")], "releasing what is not held changes nothing"


@pytest.mark.parametrize("under_minimum", ["extend", "replace", "fail"])
def test_under_the_minimum_a_round_waits_until_its_deadline_and_says_for_whom(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, under_minimum: str
) -> None:
    agents = {name: enroll(name) for name in NAMES[:3]}
    rules = {"stragglers": {"under_minimum": under_minimum}, "selection": {"minimum": 2, "clients_per_round": 2}}
    campaign = DrivenCampaign.begun(operator, tmp_path, list(agents.values()), rounds=1, **rules)
    first, second = (NAMES[number] for number in campaign.wait_until_open(1)["sampled"])
    [spare] = set(agents) - {first, second}
    campaign.train(agents[first])
    held = hold(agents[second])
    waits = f"round 1 has 1 of at least 2 updates; the update of {second} is held by its owner"
    campaign.wait_for_reason(waits)
    assert campaign.tasks(spare) == [], "nobody is drawn before the deadline"
    miss_the_deadline(coordinator)
    if under_minimum == "fail":
        reason = campaign.wait_for("paused")["reason"]
        assert reason == f"round 1 has 1 of at least 2 updates at its deadline; {waits.partition('; ')[2]}"
        campaign.move("resume")
        assert agents[second].let_go(held["task_id"]).status_code == 200
        campaign.train(agents[second])
    else:
        campaign.train(agents[spare])
        check_over(agents[second], held["task_id"], 1)
        assert [task["failure"] for task in campaign.tasks(second)] == [None]
        assert campaign.part(second)["failures_in_a_row"] == 0
    campaign.wait_for("completed")
    assert set(campaign.shares(1)) == {first, second if under_minimum == "fail" else spare}


def test_a_round_without_spare_clients_waits_deadline_after_deadline_for_a_held_update(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, selection={"minimum": 3})
    campaign.train(ada)
    held = [hold(bob), hold(cyd)]
    campaign.wait_for_reason("the updates of bob, cyd are held by their owners")
    for n_extended in (1, 2):
        miss_the_deadline(coordinator)
        operator.wait_until(
            lambda: campaign.events("round-extended"),
            lambda found, n_extended=n_extended: len(found) == n_extended,
        )
    assert {each["taken_back"] for each in campaign.events("round-extended")} == {0}
    assert bob.let_go(held[0]["task_id"]).status_code == 200
    campaign.train(bob)
    campaign.wait_for_reason(HELD_BY_CYD)
    assert cyd.let_go(held[1]["task_id"]).status_code == 200
    campaign.train(cyd)
    campaign.wait_for("completed")
    assert set(campaign.shares(1)) == {"ada", "bob", "cyd"}


def test_a_held_update_that_is_released_in_the_next_round_counts_there(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=2, stragglers=LATE_COUNTS)
    held = hold(cyd)
    campaign.train(ada)
    campaign.train(bob)
    assert campaign.wait_until_open(2)["sampled"] == [0, 1]
    assert cyd.let_go(held["task_id"]).status_code == 200
    campaign.train(cyd)
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_for("completed")
    assert {name: late for name, (_, late) in campaign.shares(2).items()} == {"ada": 0, "bob": 0, "cyd": 1}


@pytest.mark.parametrize("released", ["never", "too late to be sent"])
def test_a_held_update_that_misses_the_next_round_is_no_failure(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, released: str
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    rules = {**LATE_COUNTS, "set_aside_after": 1, "set_aside_rounds": 9}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=4, stragglers=rules)
    held = hold(cyd)
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_until_open(2)
    if released == "too late to be sent":
        assert cyd.let_go(held["task_id"]).status_code == 200
    campaign.train(ada)
    campaign.train(bob)
    assert campaign.wait_until_open(3)["sampled"] == [0, 1, 2]
    check_over(cyd, held["task_id"], 1)
    [first, _] = campaign.tasks("cyd")
    assert (first["state"], first["failure"]) == ("cancelled", None)
    assert campaign.part("cyd")["failures_in_a_row"] == 0


def test_a_released_task_that_its_agent_does_not_do_is_a_failure_like_any_other(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=2)
    held = hold(cyd)
    campaign.train(ada)
    assert cyd.let_go(held["task_id"]).status_code == 200
    campaign.train(bob)
    assert campaign.detail()["rounds_closed"] == 0, "the round waits for what its owner let go"
    miss_the_deadline(coordinator)
    campaign.wait_until_closed(1)
    assert [task["failure"] for task in campaign.tasks("cyd")[:1]] == [late_in(1)]
    assert campaign.part("cyd")["failures_in_a_row"] == 1


@pytest.mark.parametrize("end", ["rollback", "cancel", "finish", "left", "paused"])
def test_a_held_update_ends_with(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, end: str
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, stragglers=LATE_COUNTS)
    late = hold(cyd)
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_until_open(2)
    held = [late]
    if end == "rollback":
        campaign.train(ada)
        held.append(hold(bob))
        campaign.roll_back(1)
    elif end in ("cancel", "finish"):
        campaign.move(end)
    else:
        body = {"part": end}
        assert cyd.http.put(f"/v1/agents/me/campaigns/{campaign.id}", json=body).status_code == 204
    check_over(cyd, held[0]["task_id"], 1)
    ended = "superseded" if end == "rollback" else "cancelled"
    assert states(campaign, "cyd")[0] == (1, ended)
    if end == "rollback":
        check_over(bob, held[1]["task_id"], 2)
        campaign.move("resume")
        assert campaign.wait_until_open(2)["sampled"] == [0, 1, 2]


def test_updates_of_two_campaigns_are_held_at_once_and_block_nothing(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = ada, bob = [enroll(name) for name in NAMES[:2]]
    first = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1)
    hold(ada)
    held = [hold(bob)]
    second = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, name="second")
    held.append(hold(bob))
    assert held[0]["assignment"]["campaign_id"] != held[1]["assignment"]["campaign_id"]
    assert bob.ask(0).status_code == 204
    for lease, campaign in zip(held, (first, second), strict=True):
        assert bob.let_go(lease["task_id"]).status_code == 200
        assert bob.lease("train")["task_id"] == lease["task_id"]
        assert states(campaign, "bob") == [(1, "leased")]
        campaign.train(bob)


def test_a_paused_campaign_takes_the_owners_word_and_grants_nothing(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = agents = [enroll(name) for name in NAMES[:2]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, deadline={"round_s": DEADLINE_S})
    lease = bob.lease("train")
    campaign.move("pause")
    assert bob.hold(lease).status_code == 204
    assert bob.let_go(lease["task_id"]).status_code == 200
    assert bob.ask(0).status_code == 204
    campaign.move("resume")
    campaign.train(bob)
    campaign.train(ada)
    campaign.wait_for("completed")
    assert too_late_for(1) not in [task["failure"] for task in campaign.tasks("bob")]
