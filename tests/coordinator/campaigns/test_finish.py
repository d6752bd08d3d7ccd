"""``finish`` ends a campaign early with the adapter it has, evaluated as at the planned end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.settings import Settings
from tests.support.driven import LATE_COUNTS, DrivenCampaign, miss_the_deadline, patient_settings
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]
NAMES = ("ada", "bob", "cyd")
EVALUATED = {"evaluation": {"every": 5}}

pytestmark = pytest.mark.usefixtures("either_coordinator")


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return patient_settings


class Finishing:
    """A campaign of three clients in its second round, of twenty."""

    def __init__(self, operator: Operator, enroll: Enroll, folder: Path, **changes: Any) -> None:
        self.operator = operator
        self.ada, self.bob, self.cyd = self.agents = [enroll(name) for name in NAMES]
        self.campaign = DrivenCampaign(operator, folder, rounds=20, **changes)
        n_held_out = 5 if changes.get("evaluation", {}).get("every") else 0
        for agent in self.agents:
            agent.prepare(n_held_out=n_held_out)
        self.campaign.init(self.ada)
        self._evaluate(2.0, n_held_out)
        for agent in self.agents:
            self.campaign.train(agent)
        self.campaign.wait_until_open(2)

    def _evaluate(self, loss: float, n_held_out: int) -> None:
        for agent in self.agents if n_held_out else ():
            agent.evaluate(loss)

    def train(self, *agents: ScriptedAgent) -> None:
        for agent in agents:
            self.campaign.train(agent)

    def check_completed(self, final: int, dropped: int | None, **expected: Any) -> None:
        detail = self.campaign.wait_for("completed")
        assert (detail["final_adapter"], detail["rounds_closed"], detail["rounds"]) == (final, final, 20)
        reason = f"finished by the operator after round {final} of 20"
        assert detail["reason"] == reason
        told = {"round": final, "rounds": 20, "dropped": dropped, "reason": reason}
        assert self.campaign.events("campaign-ends-early") == [told]
        tasks = self.operator.items(f"{self.campaign.path}/tasks")
        assert not [task for task in tasks if task["state"] in ("pending", "leased")]
        for name, value in expected.items():
            assert detail[name] == value

    def check_nothing_is_left(self) -> None:
        """Only adapters are stored, updates of the dropped round are not."""
        stored = self.operator.wait_until(
            lambda: self.operator.get("/v1/storage")["bytes_by_kind"], lambda found: "delta" not in found
        )
        assert set(stored) == {"adapter"}


def test_a_round_with_its_minimum_of_updates_counts(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    world = Finishing(operator, enroll, tmp_path, **EVALUATED)
    world.train(world.ada, world.bob)
    late = world.cyd.lease("train")
    assert world.campaign.move("finish")["state"] == "running"
    assert world.campaign.move("finish")["state"] in ("running", "finishing")  # asking twice changes nothing
    assert world.cyd.renew(late).json()["directive"] == "cancel"
    world.campaign.wait_for("finishing")
    for agent in world.agents:
        agent.evaluate(1.5)
    world.check_completed(2, None, best_adapter=2)
    assert set(world.campaign.shares(2)) == {"ada", "bob"}
    assert world.campaign.move("finish")["state"] == "completed"
    world.check_nothing_is_left()


def test_a_round_with_fewer_updates_is_dropped(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    world = Finishing(operator, enroll, tmp_path, **EVALUATED)
    world.train(world.ada)
    late = world.bob.lease("train")
    assert world.campaign.move("finish")["state"] == "finishing"
    assert world.bob.renew(late).json()["directive"] == "cancel"
    for agent in world.agents:  # adapter 1 was not to be evaluated; as the last one it is
        agent.evaluate(1.5)
    world.check_completed(1, 2, best_adapter=1)
    assert [each["state"] for each in world.campaign.rounds()] == ["closed", "cancelled"]
    world.check_nothing_is_left()


def test_without_evaluations_it_completes_at_once(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    world = Finishing(operator, enroll, tmp_path)
    world.campaign.move("finish")
    world.check_completed(1, 2, best_adapter=None)


def test_an_adapter_that_is_evaluated_is_not_evaluated_again(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    world = Finishing(operator, enroll, tmp_path, evaluation={"every": 1})
    for agent in world.agents:
        agent.evaluate(1.5)
    operator.wait_until(world.campaign.detail, lambda detail: detail["best_adapter"] == 1)
    world.campaign.move("finish")
    world.check_completed(1, 2)


@pytest.mark.parametrize("n_updates", [1, 2])
def test_a_paused_campaign_finishes(operator: Operator, enroll: Enroll, tmp_path: Path, n_updates: int) -> None:
    world = Finishing(operator, enroll, tmp_path, **EVALUATED)
    world.train(*world.agents[:n_updates])
    world.campaign.move("pause")
    world.campaign.move("finish")
    world.campaign.wait_for("finishing")
    world.campaign.move("pause")
    assert world.campaign.move("finish")["state"] == "finishing"
    for agent in world.agents:
        agent.evaluate(1.5)
    world.check_completed(n_updates, 2 if n_updates == 1 else None)


def test_late_updates_of_an_earlier_round_are_stopped(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    world = Finishing(operator, enroll, tmp_path, stragglers=LATE_COUNTS, selection={"minimum": 2})
    late = world.cyd.lease("train")
    world.train(world.ada, world.bob)
    miss_the_deadline(either_coordinator)
    world.campaign.wait_until_open(3)
    assert world.cyd.renew(late).json()["directive"] == "continue"
    world.campaign.move("finish")
    assert world.cyd.renew(late).json()["directive"] == "cancel"
    world.check_completed(2, 3)
    world.check_nothing_is_left()


def test_what_has_no_trained_adapter_is_refused_in_words(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]

    def refusal() -> str:
        reply = operator.campaign(campaign_id, "finish")
        assert (reply.status_code, problem(reply).kind) == (409, "illegal-move")
        return problem(reply).detail

    nothing = "small has no trained adapter to finish with: "
    assert refusal() == f"{nothing}it is preparing; cancel it instead"
    operator.campaign(campaign_id, "pause")
    assert refusal() == f"{nothing}it is preparing; cancel it instead"
    operator.campaign(campaign_id, "resume")
    for agent in (ada, bob):
        agent.prepare()
    operator.wait_for(campaign_id, "initializing")
    assert refusal() == f"{nothing}it is initializing; cancel it instead"
    ada.init(adapter_bytes(tmp_path))
    ada.train(adapter_bytes(tmp_path, 1.0))
    few = "no round is closed, and round 1 has 1 of at least 2 updates"
    assert refusal() == f"{nothing}{few}; cancel it instead"
    operator.campaign(campaign_id, "cancel")
    assert refusal() == "a campaign that is cancelled cannot be finished"
    assert operator.campaign("none", "finish").status_code == 404


def test_a_campaign_that_was_finished_can_be_rolled_back_and_continued(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    world = Finishing(operator, enroll, tmp_path)
    world.train(world.ada)
    world.campaign.move("finish")
    world.check_completed(1, 2)
    world.campaign.roll_back(1)
    world.campaign.move("resume")
    for _ in range(2):
        world.train(*world.agents)
    world.campaign.wait_until_open(4)
    assert world.campaign.detail()["reason"] is None
    world.campaign.move("finish")
    world.campaign.wait_for("completed")
    assert world.campaign.detail()["final_adapter"] == 3
