"""Campaigns that end once nothing improves, and whose best adapter is chosen by any metric."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.settings import Settings
from tests.support.driven import DrivenCampaign, miss_the_deadline, patient_settings
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]

pytestmark = pytest.mark.usefixtures("either_coordinator")


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return patient_settings


class Stopping:
    """A campaign of two clients, of which the first evaluates and runs benchmarks."""

    def __init__(
        self, operator: Operator, enroll: Enroll, folder: Path, *, offers: Any = None, **evaluation: Any
    ) -> None:
        self.ada, self.bob = enroll("ada"), enroll("bob")
        self.campaign = DrivenCampaign(operator, folder, rounds=20, evaluation=evaluation)
        self.ada.prepare(n_held_out=5, offers=offers or {})
        self.bob.prepare()
        self.campaign.init(self.ada)

    def round(self) -> None:
        self.campaign.train(self.ada)
        self.campaign.train(self.bob)

    def losses(self, *losses: float) -> None:
        """Evaluate the next adapters, with a round between any two."""
        for place, loss in enumerate(losses):
            if place:
                self.round()
            self.ada.evaluate(loss)


def test_it_ends_after_evaluations_without_an_improvement_and_the_best_is_not_the_last(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    run = Stopping(operator, enroll, tmp_path, stop={"patience": 2})
    run.losses(3.0, 2.0, 2.5, 1.5, 1.5, 1.75)  # an equal value is no improvement
    ended = run.campaign.wait_for("completed")
    assert (ended["rounds_closed"], ended["final_adapter"], ended["best_adapter"]) == (5, 5, 3)
    reason = (
        "stopped after round 5 of 20: held_out_loss has not improved in 2 evaluations, since adapter 3 "
        "(1.5000 nats a token)"
    )
    assert ended["reason"] == reason
    assert run.campaign.events("campaign-ends-early") == [{"round": 5, "rounds": 20, "dropped": None, "reason": reason}]


def test_an_improvement_is_larger_than_min_delta(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    run = Stopping(operator, enroll, tmp_path, stop={"patience": 2, "min_delta": 0.5})
    run.losses(3.0, 2.75, 2.25, 2.0, 1.8)  # 2.25 is better than 3.0 by more, 1.8 than 2.25 by less
    ended = run.campaign.wait_for("completed")
    assert (ended["rounds_closed"], ended["best_adapter"]) == (4, 4)
    assert "by more than 0.5 in 2 evaluations, since adapter 2" in ended["reason"]


def test_the_best_and_the_stop_by_a_benchmark(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    evaluation = {"tasks": ["fpb"], "tasks_every": 2, "best": "fpb.acc", "stop": {"patience": 1}}
    run = Stopping(operator, enroll, tmp_path, offers={"fpb": "public"}, **evaluation)
    for number, value in ((0, 0.25), (2, 0.75), (4, 0.5)):
        run.ada.evaluate(9.0 - number)  # which decides nothing
        run.ada.benchmark({"fpb": value})
        if number < 4:
            run.round()
            run.ada.evaluate(9.0)
            run.round()
    ended = run.campaign.wait_for("completed")
    assert (ended["rounds_closed"], ended["best_adapter"]) == (4, 2)
    assert ended["reason"].startswith("stopped after round 4 of 20: fpb.acc has not improved in 1 evaluation")
    found = operator.get(f"{run.campaign.path}/adapters/best")
    assert (found["number"], found["metrics"]["fpb.acc"]) == (2, 0.75)


def test_what_it_stops_with_is_evaluated_as_the_last_one(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    evaluation = {"tasks": ["fpb"], "tasks_every": 9, "best": "fpb.acc"}
    stop = {"metric": "held_out_loss", "patience": 1}
    run = Stopping(operator, enroll, tmp_path, offers={"fpb": "public"}, **evaluation, stop=stop)
    run.ada.evaluate(1.0)
    run.ada.benchmark({"fpb": 0.25})
    run.round()
    run.ada.evaluate(2.0)
    run.ada.benchmark({"fpb": 0.5})
    ended = run.campaign.wait_for("completed")
    assert (ended["rounds_closed"], ended["best_adapter"]) == (1, 1)
    assert ended["reason"].startswith("stopped after round 1 of 20: held_out_loss has not improved")


def test_values_are_recorded_once_if_an_adapter_is_evaluated_again(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    evaluation = {"tasks": ["fpb"], "tasks_every": 1, "best": "fpb.acc"}
    run = Stopping(operator, enroll, tmp_path, **evaluation)
    run.ada.evaluate(3.0)
    run.campaign.wait_for("paused")  # nobody runs the benchmark
    assert run.ada.offer(run.campaign.id, fpb="public").status_code == 204
    run.campaign.move("resume")
    run.campaign.train(run.ada)  # round 1 was open
    run.ada.benchmark({"fpb": 0.5})
    run.campaign.train(run.bob)
    run.campaign.wait_until_closed(1)
    rows = operator.items(f"{run.campaign.path}/metrics", name="held_out_loss", round=0)
    assert [row["client_number"] for row in rows] == [0, None]


def test_a_round_waits_for_the_evaluation_that_decides(
    operator: Operator, enroll: Enroll, tmp_path: Path, either_coordinator: RunningCoordinator
) -> None:
    run = Stopping(operator, enroll, tmp_path, stop={"patience": 1})
    run.ada.lease("evaluate")
    run.campaign.wait_for_reason("waits for the evaluation of adapter 0, by which evaluation.stop decides")
    assert run.campaign.rounds() == []
    miss_the_deadline(either_coordinator)
    # nobody has measured what it decides by, so nothing is trained for nothing
    paused = run.campaign.wait_for("paused")
    assert "decides by held_out_loss, which adapter 0 does not have" in paused["reason"]
    run.campaign.move("resume")
    run.losses(2.0, 3.0)
    assert run.campaign.wait_for("completed")["best_adapter"] == 0


def test_it_pauses_where_no_agent_measures_what_it_decides_by(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    evaluation = {"every": 0, "tasks": ["fpb"], "tasks_every": 1, "best": "fpb.acc"}
    run = Stopping(operator, enroll, tmp_path, **evaluation)
    paused = run.campaign.wait_for("paused")
    assert "decides by fpb.acc, which adapter 0 does not have (fpb: no agent of the campaign" in paused["reason"]
    run.campaign.move("resume")
    assert "decides by fpb.acc" in run.campaign.wait_for("paused")["reason"]
    assert run.bob.offer(run.campaign.id, fpb="public").status_code == 204  # its owner allows it
    run.campaign.move("resume")
    run.bob.benchmark({"fpb": 0.5})
    run.round()
    run.campaign.wait_until_closed(1)
    assert run.campaign.detail()["best_adapter"] == 0


def test_a_rollback_restores_how_the_stop_stood(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    run = Stopping(operator, enroll, tmp_path, stop={"patience": 2})
    run.losses(3.0, 2.0, 2.5, 2.25)
    assert run.campaign.wait_for("completed")["rounds_closed"] == 3
    run.campaign.roll_back(2)
    run.campaign.move("resume")
    run.round()
    run.ada.evaluate(1.0)
    run.round()
    run.ada.evaluate(4.0)
    run.round()
    run.ada.evaluate(4.0)
    ended = run.campaign.wait_for("completed")
    assert (ended["rounds_closed"], ended["best_adapter"]) == (5, 3)
    assert ended["reason"].startswith("stopped after round 5 of 20")


def test_late_updates_end_with_it(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    cyd = enroll("cyd")
    ada, bob = enroll("ada"), enroll("bob")
    changes = {"stragglers": {"late_updates": "next_round"}, "selection": {"minimum": 2, "clients_per_round": 2}}
    changes["stragglers"]["over_selection"] = 0.5
    campaign = DrivenCampaign(operator, tmp_path, rounds=20, evaluation={"stop": {"patience": 1}}, **changes)
    for agent in (ada, bob, cyd):
        agent.prepare(n_held_out=5 if agent is ada else 0)
    campaign.init(ada)
    ada.evaluate(1.0)
    lease = cyd.lease("train")
    campaign.train(ada)
    campaign.train(bob)
    ada.evaluate(2.0)
    campaign.wait_for("completed")
    assert cyd.renew(lease).json().get("directive") == "cancel"


def test_a_benchmark_that_an_agent_does_not_take_up_runs_at_another_agent_while_rounds_go_on(
    operator: Operator, enroll: Enroll, tmp_path: Path, either_coordinator: RunningCoordinator
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    evaluation = {"every": 0, "tasks": ["fpb", "gsm8k"], "tasks_every": 20}
    campaign = DrivenCampaign(operator, tmp_path, rounds=20, evaluation=evaluation, selection={"minimum": 1})
    ada.prepare(offers={"fpb": "public"})
    bob.prepare(offers={"fpb": "public", "gsm8k": "public"})
    campaign.init(ada)  # and is away from then on
    bob.benchmark({"gsm8k": 0.25})
    campaign.train(bob)
    miss_the_deadline(either_coordinator)
    campaign.wait_until_closed(1)
    bob.benchmark({"fpb": 0.5})
    path = f"{campaign.path}/adapters/0"
    found = operator.wait_until(lambda: operator.get(path), lambda each: not each["evaluating"])
    assert (found["metrics"]["fpb.acc"], found["metrics"]["gsm8k.strict"]) == (0.5, 0.25)


def test_a_benchmark_that_takes_too_long_runs_at_another_agent(
    operator: Operator, enroll: Enroll, tmp_path: Path, either_coordinator: RunningCoordinator
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    evaluation = {"every": 0, "tasks": ["fpb"], "tasks_every": 1, "best": "fpb.acc", "stop": {"patience": 1}}
    campaign = DrivenCampaign(operator, tmp_path, rounds=20, evaluation=evaluation)
    for agent in (ada, bob):
        agent.prepare(offers={"fpb": "public"})
    campaign.init(ada)
    ada.lease("benchmark")
    campaign.wait_for_reason("waits for the evaluation of adapter 0")
    miss_the_deadline(either_coordinator)
    bob.benchmark({"fpb": 0.5})
    campaign.wait_until_open(1)
    assert operator.get(f"{campaign.path}/adapters/0")["benchmarks"][0]["agent_name"] == "bob"
