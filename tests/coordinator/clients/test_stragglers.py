"""Slow and failing clients: how many are drawn, who replaces them, and who is set aside."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from coordinator.database.tables import CampaignRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients import stragglers
from coordinator.settings import Settings
from shared.campaign.sampling import draw_order
from shared.campaign.spec import CampaignSpec
from tests.support.driven import (
    LATE_COUNTS,
    NAMES,
    TWO_OF_ALL,
    DrivenCampaign,
    late_in,
    miss_the_deadline,
    patient_settings,
)
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import deep

Enroll = Callable[..., ScriptedAgent]


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return patient_settings


# --- over-selection


@pytest.mark.parametrize(
    ("clients_per_round", "over_selection", "n_eligible", "n_drawn"),
    [(10, 0.3, 100, 13), (10, 0.1, 100, 11), (10, 0.11, 100, 12), (10, 0.3, 12, 12), (10, 0.0, 100, 10), (3, 1, 2, 2)],
)
def test_how_many_are_drawn(clients_per_round: int, over_selection: float, n_eligible: int, n_drawn: int) -> None:
    selection = {"clients_per_round": clients_per_round}
    body = campaign_body(selection=selection, stragglers={"over_selection": over_selection})
    campaign = CampaignRow(spec_json=CampaignSpec.model_validate(body).model_dump(mode="json"))
    step = CampaignTx(cast("Any", None), campaign, cast("Any", None))
    assert stragglers.clients_to_draw(step, n_eligible) == n_drawn
    assert stragglers.updates_wanted(step, n_eligible) == min(clients_per_round, n_eligible)


@pytest.mark.usefixtures("either_coordinator")
def test_the_first_of_the_drawn_clients_to_finish_count(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll(name) for name in NAMES]
    rules = {"over_selection": 0.5, "set_aside_after": 1}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, selection=TWO_OF_ALL, stragglers=rules)
    first, second, third = (agents[client] for client in draw_order(0, 1, range(5))[:3])
    assert campaign.wait_until_open(1)["sampled"] == sorted(draw_order(0, 1, range(5))[:3])
    slow = second.lease("train")
    campaign.train(third)
    campaign.train(first)
    campaign.wait_for("completed")
    assert set(campaign.shares(1)) == {first.name, third.name}
    assert second.renew(slow).json()["directive"] == "cancel"
    [task] = campaign.tasks(second.name)
    assert (task["state"], task["failure"]) == ("cancelled", None)  # it missed no deadline
    assert campaign.part(second.name)["failures_in_a_row"] == 0


@pytest.mark.usefixtures("coordinator")
def test_failures_are_replaced_once_too_few_are_left(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll(name) for name in NAMES]
    campaign = DrivenCampaign.begun(
        operator, tmp_path, agents, rounds=1, selection=TWO_OF_ALL, stragglers={"over_selection": 0.5}
    )
    first, second, third, fourth, _ = (agents[client] for client in draw_order(0, 1, range(5)))
    first.failure(first.lease("train"), kind="crash", message="power cut")
    assert fourth.ask(0.3).status_code == 204
    second.failure(second.lease("train"), kind="crash", message="flood")
    campaign.train(fourth)
    campaign.train(third)
    campaign.wait_for("completed")
    assert campaign.events("client-replaced") == [{"round": 1, "agent": fourth.name}]
    assert set(campaign.shares(1)) == {third.name, fourth.name}


@pytest.mark.usefixtures("coordinator")
def test_the_update_of_an_over_selected_client_may_count_in_the_next_round(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in NAMES]
    rules = {**LATE_COUNTS, "over_selection": 0.5}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=2, selection=TWO_OF_ALL, stragglers=rules)
    drawn = draw_order(0, 1, range(5))[:3]
    first, second, third = (agents[client] for client in drawn)
    slow = third.lease("train")
    campaign.train(first)
    campaign.train(second)
    left = [client for client in range(5) if client != drawn[2]]
    expected = draw_order(0, 2, left)[:3]
    assert campaign.wait_until_open(2)["sampled"] == sorted(expected)
    campaign.train(third, slow)
    for client in expected[:2]:
        campaign.train(agents[client])
    campaign.wait_for("completed")
    assert campaign.shares(2)[third.name] == (pytest.approx(0.5**0.5 / (2 + 0.5**0.5)), 1)
    assert campaign.digest(2) == campaign.digest_by_hand(2, campaign.shares(2))


# --- too few updates at the deadline


def test_with_replace_each_deadline_reassigns_missing_work_while_clients_are_left(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in NAMES[:4]]
    rules = {"under_minimum": "replace"}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, selection=TWO_OF_ALL, stragglers=rules)
    slow, done, third, fourth = (agents[client] for client in draw_order(0, 1, range(4)))
    leases = [slow.lease("train")]
    campaign.train(done)
    for spare in (third, fourth):
        miss_the_deadline(either_coordinator)
        leases.append(spare.lease("train"))
    miss_the_deadline(either_coordinator)
    extended = {"round": 1, "taken_back": 1}
    extensions = operator.wait_until(lambda: campaign.events("round-extended"), lambda found: len(found) == 3)
    assert extensions == [extended, extended, {"round": 1, "taken_back": 0}]
    for agent, lease in zip((slow, third), leases, strict=False):
        assert agent.renew(lease).json()["directive"] == "cancel"
        assert [task["failure"] for task in campaign.tasks(agent.name)] == [late_in(1)]
    campaign.train(fourth, leases[2])
    campaign.wait_for("completed")
    assert campaign.events("client-replaced") == [{"round": 1, "agent": each.name} for each in (third, fourth)]
    assert set(campaign.shares(1)) == {done.name, fourth.name}
    failures = {each["agent_name"]: each["failures_in_a_row"] for each in campaign.detail()["participants"]}
    assert failures == {slow.name: 1, third.name: 1, done.name: 0, fourth.name: 0}


def test_one_client_is_drawn_for_each_reassigned_task(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in NAMES]
    rules = {"over_selection": 0.5}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, selection=TWO_OF_ALL, stragglers=rules)
    *_, fourth, fifth = (agents[client] for client in draw_order(0, 1, range(5)))
    campaign.wait_until_open(1)
    miss_the_deadline(coordinator)
    campaign.train(fourth)
    campaign.train(fifth)
    campaign.wait_for("completed")
    assert campaign.events("round-extended") == [{"round": 1, "taken_back": 2}]


def test_with_fail_the_campaign_is_paused_and_resuming_gives_another_deadline(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    rules = {"under_minimum": "fail", "set_aside_after": 1}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, stragglers=rules)
    campaign.train(ada)
    bob.failure(bob.lease("train"), kind="crash", message="power cut")
    slow = cyd.lease("train")
    miss_the_deadline(either_coordinator)
    reason = campaign.wait_for("paused")["reason"]
    assert reason == "round 1 has 1 of at least 2 updates at its deadline: bob: power cut"
    assert cyd.renew(slow).json()["directive"] == "continue"
    assert bob.ask(0).status_code == 204
    campaign.move("resume")
    campaign.train(bob)  # the cause of the failure may have been fixed
    campaign.train(cyd, slow)
    campaign.wait_for("completed")
    assert set(campaign.shares(1)) == {"ada", "bob", "cyd"}
    assert campaign.part("bob")["failures_in_a_row"] == 0


# --- clients that are set aside


def test_a_client_that_fails_round_after_round_is_not_drawn_for_a_while(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """Cyd never answers. Dan fails every other round, so never twice in a row."""
    ada, bob, _, dan = agents = [enroll(name) for name in NAMES[:4]]
    rules = {"set_aside_after": 2, "set_aside_rounds": 2}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=7, stragglers=rules)
    for number in range(1, 8):
        campaign.train(ada)
        campaign.train(bob)
        if number % 2:
            dan.failure(dan.lease("train"), kind="crash", message="power cut")
        else:
            campaign.train(dan)
        if number in (1, 2, 5):  # the round waits for cyd
            assert campaign.wait_until_open(number)["sampled"] == [0, 1, 2, 3]
            miss_the_deadline(either_coordinator)
        campaign.wait_until_closed(number)
        if number == 2:
            cyd = campaign.part("cyd")
            assert (cyd["failures_in_a_row"], cyd["set_aside_until"]) == (2, 4)
    campaign.wait_for("completed")
    eligible = [round_row["eligible"] for round_row in campaign.rounds()]
    assert [2 in clients for clients in eligible] == [True, True, False, False, True, False, False]
    assert all({0, 1, 3} <= set(clients) for clients in eligible)
    assert campaign.events("agent-set-aside") == [
        {"agent": "cyd", "failures": 2, "until": 4},
        {"agent": "cyd", "failures": 3, "until": 7},
    ]
    assert [task["failure"] for task in campaign.tasks("cyd")] == [late_in(number) for number in (1, 2, 5)]
    dans = campaign.part("dan")
    assert (dans["failures_in_a_row"], dans["set_aside_until"]) == (1, None)


@pytest.mark.parametrize("bob", [deep("is revoked"), "fails", deep("is silent")])
def test_a_client_set_aside_is_readmitted_if_the_minimum_needs_it(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, bob: str
) -> None:
    agents = {name: enroll(name) for name in NAMES[:3]}
    rules = {"set_aside_after": 1, "set_aside_rounds": 9}
    campaign = DrivenCampaign.begun(operator, tmp_path, list(agents.values()), rounds=3, stragglers=rules)
    campaign.train(agents["ada"])
    campaign.train(agents["bob"])
    miss_the_deadline(coordinator)
    assert campaign.wait_until_open(2)["eligible"] == [0, 1]
    assert campaign.part("cyd")["set_aside_until"] == 10
    if bob == "is revoked":
        campaign.train(agents["bob"])
        operator.post("/v1/agents/bob/revoke")
        campaign.train(agents["ada"])
        assert campaign.wait_until_open(3)["sampled"] == [0, 2]
    elif bob == "fails":
        agents["bob"].failure(agents["bob"].lease("train"), kind="crash", message="power cut")
        campaign.train(agents["ada"])
    else:
        campaign.train(agents["ada"])
        miss_the_deadline(coordinator)
    campaign.train(agents["cyd"])
    if bob != "is revoked":
        campaign.wait_until_closed(2)
        assert campaign.events("client-replaced") == [{"round": 2, "agent": "cyd"}]
        assert set(campaign.shares(2)) == {"ada", "cyd"}
        back = campaign.part("cyd")
        assert (back["failures_in_a_row"], back["set_aside_until"]) == (0, None)


def test_an_evaluation_does_not_wait_for_a_client_set_aside(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, _ = agents = [enroll(name) for name in NAMES[:3]]
    rules = {"stragglers": {"set_aside_after": 1}, "evaluation": {"every": 1}}
    campaign = DrivenCampaign(operator, tmp_path, rounds=2, **rules)
    for agent in agents:
        agent.prepare(n_held_out=5)
    campaign.init(ada)
    for number in (0, 1):
        for agent in (ada, bob):
            agent.evaluate(2.0)
            campaign.train(agent)
        if number == 0:
            miss_the_deadline(coordinator)
    for agent in (ada, bob):
        agent.evaluate(1.0)
    campaign.wait_for("completed")
    assert [task["round"] for task in campaign.tasks("cyd", "evaluate")] == [0]
    assert operator.get(f"{campaign.path}/adapters/2")["metrics"] == {"held_out_loss": 1.0}


def test_resuming_readmits_all_clients(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, _ = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, stragglers={"set_aside_after": 1})
    campaign.train(ada)
    campaign.train(bob)
    miss_the_deadline(coordinator)
    assert campaign.wait_until_open(2)["sampled"] == [0, 1]
    campaign.move("pause")
    campaign.move("resume")
    assert campaign.part("cyd")["failures_in_a_row"] == 0
    campaign.train(ada)
    campaign.train(bob)
    assert campaign.wait_until_open(3)["sampled"] == [0, 1, 2]
