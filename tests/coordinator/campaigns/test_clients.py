"""The listing of a campaign's clients: weights, losses now and at the start, and why a loss is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.driven import NAMES, DrivenCampaign
from tests.support.messages import evaluated
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent

WITHHELD: dict[str, Any] = {"report": "none", "evaluates": False}
SILENT: dict[str, Any] = {"train_loss_first": None, "train_loss_last": None, "train_loss_mean": None}


@pytest.fixture
def agents(enroll: Callable[..., ScriptedAgent]) -> list[ScriptedAgent]:
    return [enroll(name) for name in NAMES[:4]]


def begun(operator: Operator, folder: Path, agents: list[ScriptedAgent], **changes: Any) -> DrivenCampaign:
    """A campaign whose first round is open, of which dan reports no losses and cyd has no held-out rows."""
    body = {"selection": {"minimum": 4}, "evaluation": {"every": 1}, **changes}
    campaign = DrivenCampaign(operator, folder, **body)
    for agent, n_train in zip(agents, (40, 30, 20, 10), strict=True):
        n_held_out = 0 if agent.name == "cyd" else 5
        agent.prepare(n_train=n_train, n_held_out=n_held_out, **WITHHELD if agent.name == "dan" else {})
    campaign.init(agents[0])
    campaign.wait_until_open(1)
    return campaign


def clients(campaign: DrivenCampaign) -> dict[str, Any]:
    return {each["agent_name"]: each for each in campaign.operator.all_items(f"{campaign.path}/clients")}


def train(campaign: DrivenCampaign, agents: list[ScriptedAgent], **losses: float) -> None:
    for agent in agents:
        metrics = SILENT if agent.name == "dan" else {"train_loss_mean": losses.get(agent.name, 1.5)}
        campaign.train(agent, **metrics)


@pytest.mark.usefixtures("either_coordinator")
def test_each_client_has_its_weight_and_its_losses_now_and_at_the_start(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent]
) -> None:
    ada, bob, *_ = agents
    campaign = begun(operator, tmp_path, agents)
    assert {each["evaluation"] for each in clients(campaign).values()} == {"under way", "no rows", "withheld"}
    ada.evaluate(2.0)
    bob.evaluate(1.0)
    train(campaign, agents, ada=1.75, bob=1.25)
    ada.evaluate(1.5)
    bob.evaluate(1.125)
    of = clients(campaign)
    assert [each["update_weight"] for each in of.values()] == [0.4, 0.3, 0.2, 0.1]
    assert {each["update_round"] for each in of.values()} == {1}
    assert [of[name]["training"].get("train_loss_mean") for name in NAMES[:4]] == [1.75, 1.25, 1.5, None]
    assert [of[name]["evaluation"] for name in NAMES[:4]] == ["evaluated", "evaluated", "no rows", "withheld"]
    losses = [(each["base"].get("held_out_loss"), each["held_out"].get("held_out_loss")) for each in of.values()]
    assert losses == [(2.0, 1.5), (1.0, 1.125), (None, None), (None, None)]
    assert [of[name]["worse_than_base"] for name in NAMES[:4]] == [False, True, None, None]
    assert [(of[name]["report"], of[name]["evaluates"]) for name in ("ada", "dan")] == [("live", True), ("none", False)]


def test_a_failed_evaluation_is_told_from_one_under_way_and_the_older_loss_keeps_its_number(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent]
) -> None:
    ada, bob, *_ = agents
    campaign = begun(operator, tmp_path, agents)
    ada.evaluate(2.0)
    bob.evaluate(1.0)
    train(campaign, agents)
    bob.failure(bob.lease("evaluate"), kind="data", message="no such file")
    of = clients(campaign)
    assert (of["ada"]["evaluation"], of["ada"]["evaluated_adapter"]) == ("under way", 0)
    assert (of["bob"]["evaluation"], of["bob"]["evaluated_adapter"]) == ("failed", 0)
    assert of["bob"]["evaluation_failure"] == {"kind": "data", "message": "no such file"}
    assert of["bob"]["held_out"]["held_out_loss"] == 1.0


def test_a_difference_that_four_places_do_not_show_is_not_called_worse(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent]
) -> None:
    ada, bob, *_ = agents
    campaign = begun(operator, tmp_path, agents)
    for loss in (1.0, 1.00001):
        ada.evaluate(loss)
        bob.evaluate(loss)
        if loss == 1.0:
            train(campaign, agents)
    assert [clients(campaign)[name]["worse_than_base"] for name in ("ada", "bob")] == [False, False]


def test_the_mean_training_loss_is_over_the_clients_that_report_it(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent]
) -> None:
    campaign = begun(operator, tmp_path, agents, evaluation={"every": 0})
    train(campaign, agents, ada=2.0, bob=1.0, cyd=4.0)
    campaign.wait_until_closed(1)
    metrics = operator.items(f"{campaign.path}/metrics", name="train_loss_mean", scope="round")
    assert [each["value"] for each in metrics] == [pytest.approx((0.4 * 2 + 0.3 * 1 + 0.2 * 4) / 0.9)]
    assert all(each["client_number"] is None for each in metrics)


def test_a_round_of_which_nobody_reports_losses_has_no_mean(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent]
) -> None:
    campaign = begun(operator, tmp_path, agents, evaluation={"every": 0})
    for agent in agents:
        campaign.train(agent, **SILENT)
    campaign.wait_until_closed(1)
    assert operator.items(f"{campaign.path}/metrics", name="train_loss_mean") == []


def test_an_agent_that_reports_no_losses_is_asked_for_no_evaluation(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent]
) -> None:
    campaign = begun(operator, tmp_path, agents)
    assert campaign.tasks("dan", "evaluate") == []
    assert len(campaign.tasks("ada", "evaluate")) == 1
    assert [each["report"] for each in campaign.detail()["participants"]] == ["live", "live", "live", "none"]


@pytest.mark.usefixtures("either_coordinator")
def test_a_rollback_takes_weights_and_losses_back_to_the_round(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent]
) -> None:
    ada, bob, *_ = agents
    campaign = begun(operator, tmp_path, agents)
    before: dict[str, Any] = {}
    for number, loss in enumerate((2.0, 1.5, 1.25)):
        for agent in (ada, bob):
            agent.evaluate(loss)
        if number == 1:
            before = clients(campaign)
        if number < 2:
            train(campaign, agents, ada=loss)
    assert clients(campaign)["ada"]["held_out"]["held_out_loss"] == 1.25
    campaign.roll_back(1)
    assert clients(campaign) == before
    campaign.roll_back(0)
    of = clients(campaign)["ada"]
    assert (of["update_round"], of["update_weight"], of["training"]) == (None, None, {})
    assert (of["evaluated_adapter"], of["held_out"]["held_out_loss"], of["worse_than_base"]) == (0, 2.0, False)


def test_an_adapter_says_whether_evaluations_of_it_are_under_way(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent]
) -> None:
    campaign = begun(operator, tmp_path, agents)
    adapter = f"{campaign.path}/adapters/0"
    ada, bob, *_ = agents
    ada.evaluate(2.0)
    assert (operator.get(adapter)["evaluating"], operator.get(adapter)["metrics"]) == (True, {})
    bob.result(bob.lease("evaluate"), evaluated(1.0))
    shown = operator.wait_until(lambda: operator.get(adapter), lambda read: not read["evaluating"])
    assert shown["metrics"]["held_out_loss"] == 1.5


def test_metrics_have_the_time_at_which_they_were_recorded(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent]
) -> None:
    campaign = begun(operator, tmp_path, agents, evaluation={"every": 0})
    train(campaign, agents)
    campaign.wait_until_closed(1)
    events = operator.items(f"{campaign.path}/events")
    closed = next(event["at"] for event in events if event["type"] == "round-closed")
    done = [event["at"] for event in events if event["type"] == "task-done" and event["data"]["kind"] == "train"]
    metrics = operator.items(f"{campaign.path}/metrics")
    assert {each["at"] for each in metrics if each["client_number"] is None} == {closed}
    assert {each["at"] for each in metrics if each["client_number"] is not None} == set(done)
    assert operator.http.get(f"{campaign.path}/metrics", params={"scope": "agent"}).status_code == 422


@pytest.mark.usefixtures("either_coordinator")
def test_clients_are_listed_page_by_page_and_participants_without_a_number_are_none(
    operator: Operator, tmp_path: Path, agents: list[ScriptedAgent], enroll: Callable[..., ScriptedAgent]
) -> None:
    campaign = begun(operator, tmp_path, agents)
    enroll("eve")
    operator.wait_until(campaign.detail, lambda detail: len(detail["participants"]) == 5)
    assert [each["client_number"] for each in operator.all_items(f"{campaign.path}/clients", limit=3)] == [0, 1, 2, 3]
    assert operator.http.get("/v1/campaigns/nobody/clients").status_code == 404
