"""A third-party algorithm whose server half fails: the campaign pauses, says so, and continues after a repair."""

from pathlib import Path

import pytest

from tests.support.distributions import write_distribution
from tests.support.entry_points import write_out
from tests.support.processes import QuickAgent, QuickCoordinator, ended
from tests.support.scripted import campaign_body

MODULE = '''
"""Brittle: FedAvg that fails while a file exists."""

from pathlib import Path

from shared.algorithms import AlgorithmParams, fedavg

BROKEN = Path("BROKEN")
Params, Client = AlgorithmParams, fedavg.Client


class Server(fedavg.Server):
    def aggregate(self, x, updates, state, *, first):
        if BROKEN.exists():
            raise KeyError("/home/ada/secret")
        return super().aggregate(x, updates, state, first=first)
'''


@pytest.mark.deep
def test_the_campaign_pauses_with_the_reason_and_resumes_with_the_same_updates(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    source = write_distribution(tmp_path / "source", "brittle", MODULE.replace('BROKEN")', f'{broken}")'))
    coordinator = QuickCoordinator(tmp_path / "coordinator", PYTHONPATH=write_out(source, tmp_path / "site"))
    agent = QuickAgent.recorded_one(coordinator, tmp_path, "ada")
    with ended(coordinator, agent):
        agent.start()
        operator = coordinator.operator
        body = campaign_body(algorithm={"name": "brittle"}, selection={"minimum": 1}, rounds=2)
        campaign_id = operator.post("/v1/campaigns", body)["id"]
        paused = operator.wait_for(campaign_id, "completed", "failed", "paused")
        trained = len([1 for each in operator.items(f"/v1/campaigns/{campaign_id}/tasks") if each["kind"] == "train"])
        broken.unlink()
        operator.post(f"/v1/campaigns/{campaign_id}/resume")
        ended_as = operator.wait_for(campaign_id, "completed", "failed", "paused")
        tasks = [each for each in operator.items(f"/v1/campaigns/{campaign_id}/tasks") if each["kind"] == "train"]
    assert paused["state"] == "paused"
    assert paused["reason"] == (
        "the round cannot be aggregated: the algorithm brittle failed: KeyError; the log has the reason"
    )
    assert ended_as["state"] == "completed"
    assert (trained, len(tasks)) == (1, 2), "the first round's update was aggregated after the repair"
