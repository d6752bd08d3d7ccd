"""What an agent may ask of its own campaigns."""

from collections.abc import Callable
from pathlib import Path

from tests.support.driven import DrivenCampaign
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent


def test_an_agent_sees_the_states_of_its_campaigns_and_the_weight_of_its_own_update(
    operator: Operator, enroll: Callable[..., ScriptedAgent], tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob], {"ada": 10, "bob": 30}, rounds=2)

    def seen_by(agent: ScriptedAgent) -> dict[str, object]:
        [view] = agent.http.get("/v1/agents/me/campaigns").json()["campaigns"]
        return dict(view)

    none_yet = {"update_round": None, "update_weight": None}
    whole = {"id": campaign.id, "name": campaign.detail()["name"], "rounds": 2, "history": 0, "participant": "prepared"}
    campaign.wait_until_open(1)
    assert seen_by(ada) == {**whole, "state": "running", "rounds_closed": 0, "n_train": 10, **none_yet}
    for agent in (ada, bob):
        campaign.train(agent)
    campaign.wait_until_closed(1)
    assert (seen_by(ada)["update_weight"], seen_by(bob)["update_weight"]) == (0.25, 0.75)
    assert seen_by(ada)["update_round"] == 1
    campaign.move("pause")
    assert seen_by(ada)["state"] == "paused"
    assert "reason" not in seen_by(ada)
    campaign.move("cancel")
    assert seen_by(bob)["state"] == "cancelled"
    assert enroll("cyd").http.get("/v1/agents/me/campaigns").json() == {"campaigns": []}
    assert operator.http.get("/v1/agents/me/campaigns").status_code == 403
