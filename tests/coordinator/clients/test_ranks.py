"""Clients that train a smaller rank than the campaign's: what is refused, and rounds of several ranks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.settings import Settings
from shared.adapters.lora import shape_at_rank
from tests.support.distributions import EXAMPLES
from tests.support.driven import LATE_COUNTS, DrivenCampaign, miss_the_deadline, patient_settings
from tests.support.entry_points import installed_here
from tests.support.operator import Operator, problem
from tests.support.scripted import SHAPES, ScriptedAgent, adapter_bytes, campaign_body, prepared
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]
SVD = {"name": "svd"}
RANKS = {"ada": 1, "bob": 2}


@pytest.fixture(autouse=True)
def svd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The coordinator has the example that mixes ranks."""
    with installed_here(EXAMPLES, tmp_path / "site", monkeypatch):
        yield


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return patient_settings


def delta_bytes(folder: Path, seed: int, rank: int) -> bytes:
    rng = np.random.default_rng(seed)
    shapes = {name: shape_at_rank(name, shape, rank) for name, shape in SHAPES.items()}
    return adapter_bytes(
        folder, **{name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    )


def begun(operator: Operator, folder: Path, agents: list[ScriptedAgent], **changes: Any) -> DrivenCampaign:
    """A campaign of rank 2 with the example; agents train the rank that RANKS has for them, others 2."""
    campaign = DrivenCampaign(operator, folder, algorithm=SVD, retention={"updates": 3}, **changes)
    for agent in agents:
        agent.prepare(rank=RANKS.get(agent.name))
    campaign.init(agents[0])
    return campaign


def train(folder: Path, agent: ScriptedAgent, lease: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train in the agent's rank; the delta depends on the agent and the round."""
    lease = lease or agent.lease("train")
    task = lease["assignment"]
    seed, rank = 10 * task["round"] + task["client_number"], RANKS.get(agent.name, 2)
    return agent.train(delta_bytes(folder, seed, rank), lease)


@pytest.mark.usefixtures("coordinator")
@pytest.mark.parametrize(
    ("algorithm", "rank", "reason"),
    [
        ("fedavg", 1, "1 is too small: fedavg needs 2, the rank of the campaign's adapter, from every client"),
        ("fedavg", 3, "3 is above 2, the rank of the campaign's adapter"),
        ("svd", 3, "3 is above 2, the rank of the campaign's adapter"),
        ("svd", 0, "Input should be greater than or equal to 1"),
    ],
)
def test_a_rank_that_a_client_may_not_train_is_refused_in_words(
    operator: Operator, enroll: Enroll, algorithm: str, rank: int, reason: str
) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(algorithm={"name": algorithm}))
    lease = ada.lease("prepare")
    assert lease["assignment"]["mixes_ranks"] is (algorithm == "svd")
    refused = ada.result(lease, prepared(rank=rank))
    assert (refused.status_code, problem(refused).kind) == (422, "invalid")
    [error] = problem(refused).errors
    assert error.field.endswith("rank")
    assert error.message == reason
    assert ada.result(lease, prepared(rank=2)).status_code == 200, "the lease lives on"


@pytest.mark.usefixtures("coordinator")
def test_an_update_of_another_rank_than_the_clients_is_refused(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    begun(operator, tmp_path, [ada, bob])
    lease = ada.lease("train")
    too_large = ada.start_upload(lease, "delta", delta_bytes(tmp_path, 0, rank=2))
    assert (too_large.status_code, problem(too_large).kind) == (413, "too-large")
    lease = bob.lease("train")
    too_small = bob.start_upload(lease, "delta", delta_bytes(tmp_path, 0, rank=1))
    assert (too_small.status_code, problem(too_small).kind) == (422, "invalid")
    assert "bytes are too few: a delta of this task has" in problem(too_small).detail


@pytest.mark.usefixtures("either_coordinator")
def test_rounds_of_several_ranks_are_verified_rolled_back_and_continued_by_a_chain(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in RANKS]
    campaign = begun(operator, tmp_path, agents, evaluation={"every": 1})
    for _ in range(3):
        for agent in agents:
            train(tmp_path, agent)
    campaign.wait_for("completed")
    assert {each["agent_name"]: each["rank"] for each in campaign.detail()["participants"]} == RANKS
    assert [each["outcome"] for each in operator.verify(campaign.id)] == ["verified"] * 4
    measured = {each["name"] for each in operator.items(f"{campaign.path}/metrics", round=1)}
    assert "update_norm" in measured
    assert not measured & {"factor_gap", "factor_gap_relative"}
    made = [campaign.digest(number) for number in range(4)]
    assert len(set(made)) == 4

    campaign.roll_back(1)
    campaign.move("resume")
    for _ in range(2):
        for agent in agents:
            train(tmp_path, agent)
    campaign.wait_for("completed")
    assert [campaign.digest(number) for number in range(4)] == made

    chained = DrivenCampaign(operator, tmp_path, name="next", start_from="small/1", algorithm=SVD, rounds=1)
    for agent in agents:
        agent.prepare(rank=RANKS[agent.name])
    for agent in agents:
        train(tmp_path, agent)
    chained.wait_for("completed")
    assert chained.digest(0) == made[1]


def test_a_late_update_of_a_smaller_rank_counts_in_the_next_round(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in ("ada", "bob", "cyd")]
    campaign = begun(operator, tmp_path, agents, rounds=2, stragglers=LATE_COUNTS, evaluation={"every": 1})
    late = ada.lease("train")
    train(tmp_path, bob)
    train(tmp_path, cyd)
    miss_the_deadline(coordinator)
    campaign.wait_until_open(2)
    train(tmp_path, ada, late)
    train(tmp_path, bob)
    train(tmp_path, cyd)
    campaign.wait_for("completed")
    assert {name: late for name, (_, late) in campaign.shares(2).items()} == {"ada": 1, "bob": 0, "cyd": 0}
    assert [each["outcome"] for each in operator.verify(campaign.id)] == ["verified"] * 3
    gaps = [each["round"] for each in operator.items(f"{campaign.path}/metrics", name="factor_gap")]
    assert gaps == [1], "measured in the round without the client of the smaller rank"
