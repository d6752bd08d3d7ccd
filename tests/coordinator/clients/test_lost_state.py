"""Client state that a client reports as lost: believed once, and only if it had any."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.driven import DrivenCampaign, delta_of
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, slots_bytes

Enroll = Callable[..., ScriptedAgent]

pytestmark = pytest.mark.usefixtures("either_coordinator")


class Scaffold:
    """A campaign with SCAFFOLD and three clients."""

    def __init__(self, operator: Operator, enroll: Enroll, folder: Path) -> None:
        self.agents = [enroll(name) for name in ("ada", "bob", "eve")]
        self.folder = folder
        self.extras = slots_bytes(folder, 0.25, "delta_c")
        self.campaign = DrivenCampaign.begun(
            operator, folder, self.agents, algorithm={"name": "scaffold"}, rounds=6, selection={"minimum": 2}
        )

    def round(self, number: int, lost: str | None = None) -> str | None:
        """Train a round; the agent *lost* reports the loss of its state. Returns the refusal of that."""
        refusal = None
        for agent in self.agents:
            lease = agent.lease("train")
            assert lease["assignment"]["round"] == number
            if agent.name != lost:
                self.campaign.train(agent, lease, self.extras)
                continue
            delta = agent.upload(lease, "delta", adapter_bytes(self.folder, **delta_of(agent.name, number)))
            extras = agent.upload(lease, "extras", self.extras)
            reply = agent.result(lease, agent.train_result(delta, extras, client_state_lost=True))
            if reply.status_code != 200:
                assert (reply.status_code, problem(reply).kind) == (422, "bad-update")
                refusal = problem(reply).detail
        self.campaign.wait_until_closed(number)
        return refusal

    def restarts(self) -> list[int]:
        return [event["round"] for event in self.campaign.events("algorithm-restarted")]

    def has_state(self) -> bool:
        """Whether the newest adapter has the algorithm's state, which clients get with it."""
        number = self.campaign.detail()["rounds_closed"]
        lease = self.agents[0].lease("train")
        assert self.agents[0].release(lease).status_code == 204
        assert lease["assignment"]["round"] == number + 1
        return lease["assignment"]["broadcast"] is not None


@pytest.mark.deep
def test_one_agent_restarts_the_algorithm_once(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    scaffold = Scaffold(operator, enroll, tmp_path)
    first = "the update reports lost client state, but its task named none: no update of this client has counted since "
    assert scaffold.round(1, lost="eve") == f"{first}scaffold began"
    assert scaffold.round(2) is None
    assert scaffold.round(3, lost="eve") is None
    assert scaffold.restarts() == [3]
    assert not scaffold.has_state()
    assert scaffold.round(4, lost="eve") == f"{first}scaffold began"
    assert scaffold.round(5) is None
    assert scaffold.round(6, lost="eve") == (
        "this client reports lost client state for the second time (the first was in round 3). scaffold restarts for "
        "all clients then, which it does once for each client, so this client's updates no longer count: restore the "
        "agent's home, or enrol the agent anew"
    )
    assert scaffold.restarts() == [3]
    campaign = scaffold.campaign
    campaign.wait_for("completed")
    assert set(campaign.shares(5)) == {"ada", "bob", "eve"}
    assert set(campaign.shares(6)) == {"ada", "bob"}
    [*_, refused] = campaign.events("task-failed")
    assert (refused["failure"], refused["round"]) == ("bad-update", 6)


def test_each_client_may_lose_its_state_once(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    scaffold = Scaffold(operator, enroll, tmp_path)
    for number, lost in ((1, None), (2, "eve"), (3, None), (4, "bob"), (5, None)):
        assert scaffold.round(number, lost) is None
    assert scaffold.restarts() == [2, 4]
    assert scaffold.has_state()


def test_a_rollback_to_before_the_loss_takes_it_back(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    scaffold = Scaffold(operator, enroll, tmp_path)
    for number, lost in ((1, None), (2, "eve")):
        assert scaffold.round(number, lost) is None
    scaffold.campaign.roll_back(1)
    scaffold.campaign.move("resume")
    assert scaffold.round(2, "eve") is None  # it was not there before
    assert scaffold.round(3) is None
    scaffold.campaign.roll_back(2)
    scaffold.campaign.move("resume")
    assert scaffold.round(3) is None
    assert "second time (the first was in round 2)" in (scaffold.round(4, "eve") or "")
