"""Rounds: which clients are drawn and replaced, when a round closes, and how updates are weighted."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.adapters.files import AdapterFile
from shared.campaign.sampling import draw_order
from tests.support.operator import Operator, problem
from tests.support.scripted import SHAPES, ScriptedAgent, adapter_bytes, begin_campaign, campaign_body, initial_bytes
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import deep

Enroll = Callable[..., ScriptedAgent]
NAMES = ("ada", "bob", "cyd", "dan", "eve")


def first_sampled(operator: Operator, campaign_id: str, number: int = 1) -> list[int]:
    url = f"/v1/campaigns/{campaign_id}/rounds"
    rows = operator.wait_until(lambda: operator.items(url), lambda found: len(found) >= number)
    return list(rows[number - 1]["sampled"])


def contributors(operator: Operator, campaign_id: str, number: int = 1) -> dict[str, float]:
    adapter = operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}")
    return {share["agent_name"]: share["weight"] for share in adapter["contributions"]}


def test_the_draw_follows_from_seed_and_round_alone() -> None:
    orders = {(seed, number): tuple(draw_order(seed, number, range(20))) for seed in range(3) for number in range(1, 6)}
    assert len(set(orders.values())) == 15
    assert all(sorted(order) == list(range(20)) for order in orders.values())
    assert draw_order(1, 2, [3, 1, 2]) == draw_order(1, 2, [1, 2, 3])
    # exact values: a campaign that continues under a later version of numpy must draw the same clients
    assert draw_order(0, 1, range(6)) == list(orders_of_seed_0())


def orders_of_seed_0() -> list[int]:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((0, 1))))
    return [int(each) for each in generator.permutation(6)]


@pytest.mark.deep
@pytest.mark.usefixtures("coordinator")
def test_equal_seeds_draw_equal_clients(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll(name) for name in NAMES]
    drawn = []
    for seed in (7, 7, 8):
        body = {"selection": {"minimum": 2, "clients_per_round": 2}, "training": {"steps": 1, "seed": seed}}
        campaign_id = begin_campaign(operator, tmp_path, agents, rounds=3, **body)
        for number in (1, 2, 3):
            for client in first_sampled(operator, campaign_id, number):
                agents[client].train(adapter_bytes(tmp_path, 1.0))
        operator.wait_for(campaign_id, "completed")
        rounds = operator.items(f"/v1/campaigns/{campaign_id}/rounds")
        assert all(row["contributors"] == row["sampled"] for row in rounds)
        assert all(row["eligible"] == [0, 1, 2, 3, 4] for row in rounds)
        drawn.append([tuple(row["sampled"]) for row in rounds])
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == [tuple(sorted(draw_order(7, number, range(5))[:2])) for number in (1, 2, 3)]


@pytest.mark.usefixtures("either_coordinator")
def test_a_failed_task_is_replaced_by_the_next_client_drawn(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll(name) for name in NAMES[:4]]
    campaign_id = begin_campaign(operator, tmp_path, agents, selection={"minimum": 2, "clients_per_round": 2})
    order = draw_order(0, 1, range(4))
    first, second, third, fourth = (agents[client] for client in order)
    assert fourth.ask(0).status_code == 204
    first.failure(first.lease("train"), kind="crash", message="power cut")
    second.failure(second.lease("train"), kind="crash", message="flood")
    third.train(adapter_bytes(tmp_path, 1.0))
    fourth.train(adapter_bytes(tmp_path, 1.0))
    operator.wait_for(campaign_id, "completed")
    assert set(contributors(operator, campaign_id)) == {third.name, fourth.name}
    assert operator.items(f"/v1/campaigns/{campaign_id}/rounds")[0]["sampled"] == [0, 1, 2, 3]


def test_the_deadline_closes_a_round_with_a_quorum_without_the_late(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in NAMES[:3]]
    campaign_id = begin_campaign(operator, tmp_path, agents, deadline={"round_s": 1000})
    late = agents[2].lease("train")
    digest = agents[2].upload(late, "delta", adapter_bytes(tmp_path, 100.0))
    agents[0].train(adapter_bytes(tmp_path, 1.0))
    agents[1].train(adapter_bytes(tmp_path, 1.0))
    either_coordinator.clock.move(1001)
    operator.wait_for(campaign_id, "completed")
    reply = agents[2].result(late, agents[2].train_result(digest))
    assert (reply.status_code, problem(reply).kind) == (410, "lease-lost")
    assert set(contributors(operator, campaign_id)) == {"ada", "bob"}


def test_a_deadline_below_the_quorum_extends_the_round_and_replaces_idle_clients(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in NAMES[:3]]
    selection = {"minimum": 2, "clients_per_round": 2}
    campaign_id = begin_campaign(operator, tmp_path, agents, selection=selection, deadline={"round_s": 1000})
    working, idle, spare = (agents[client] for client in draw_order(0, 1, range(3)))
    lease = working.lease("train")
    coordinator.clock.move(30)
    working.renew(lease)
    coordinator.clock.move(60)
    working.renew(lease)
    for _ in range(11):
        coordinator.clock.move(85)
        working.renew(lease)
    spare.train(adapter_bytes(tmp_path, 1.0))
    assert "round-extended" in operator.events(campaign_id)
    assert idle.ask(0).status_code == 204
    working.train(adapter_bytes(tmp_path, 3.0), lease)
    operator.wait_for(campaign_id, "completed")
    assert set(contributors(operator, campaign_id)) == {working.name, spare.name}


@pytest.mark.usefixtures("either_coordinator")
def test_a_round_whose_clients_all_failed_pauses_with_the_reasons_and_resuming_retries(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob])
    ada.train(adapter_bytes(tmp_path, 1.0))
    bob.failure(bob.lease("train"), kind="out-of-memory", message="row 3 needs 99 GB")
    reason = operator.wait_for(campaign_id, "paused")["reason"]
    assert "1 of at least 2 updates" in reason
    assert "row 3 needs 99 GB" in reason
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    bob.failure(bob.lease("train"), kind="crash", message="power cut")
    reason = operator.wait_for(campaign_id, "paused")["reason"]
    assert reason == "round 1 has 1 of at least 2 updates and no client left: bob: power cut"  # the other was mended
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    bob.train(adapter_bytes(tmp_path, 3.0))
    campaign = operator.wait_for(campaign_id, "completed")
    assert campaign["reason"] is None
    assert contributors(operator, campaign_id) == {"ada": 0.5, "bob": 0.5}  # ada's update still counts


@pytest.mark.usefixtures("coordinator")
def test_a_round_without_enough_clients_left_pauses(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob], rounds=2)
    ada.train(adapter_bytes(tmp_path, 1.0))
    lease = bob.lease("train")
    operator.post("/v1/agents/bob/revoke")
    assert "1 of at least 2" in operator.wait_for(campaign_id, "paused")["reason"]
    assert problem(bob.renew(lease)).kind == "agent-revoked"


@pytest.mark.parametrize(
    ("weighting", "weights"),
    [
        deep({"by": "examples"}, [0.1, 0.3, 0.6]),
        ({"by": "uniform"}, [1 / 3, 1 / 3, 1 / 3]),
        ({"by": "examples", "max_examples": 30}, [10 / 70, 30 / 70, 30 / 70]),
    ],
)
@pytest.mark.usefixtures("coordinator")
def test_updates_are_weighted_as_the_campaign_specifies(
    operator: Operator, enroll: Enroll, tmp_path: Path, weighting: dict[str, Any], weights: list[float]
) -> None:
    agents = [enroll(name) for name in NAMES[:3]]
    campaign_id = operator.post("/v1/campaigns", campaign_body(weighting=weighting))["id"]
    for agent, n_train in zip(agents, (10, 30, 60), strict=True):
        agent.prepare(n_train=n_train)
    agents[0].init(initial_bytes(tmp_path, 1.0))
    for agent, fill in zip(reversed(agents), (4.0, 2.0, 1.0), strict=True):  # the order of arrival does not matter
        agent.train(adapter_bytes(tmp_path, fill))
    operator.wait_for(campaign_id, "completed")
    assert list(contributors(operator, campaign_id).values()) == pytest.approx(weights)
    final = operator.get(f"/v1/campaigns/{campaign_id}/adapters/1")
    (tmp_path / "final").write_bytes(operator.http.get(f"/v1/blobs/{final['blob']['sha256']}").content)
    update = np.float32(np.dot(weights, [1.0, 2.0, 4.0]))
    with AdapterFile(tmp_path / "final") as file:
        for name in SHAPES:
            expected = np.float32("lora_A" in name) + update
            np.testing.assert_allclose(file.read(name), expected, rtol=1e-7)
    n_elements = sum(math.prod(shape) for shape in SHAPES.values())
    norm = next(row for row in operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="update_norm"))
    assert norm["value"] == pytest.approx(update * math.sqrt(n_elements))


@pytest.mark.usefixtures("coordinator")
def test_the_learning_rate_falls_by_a_cosine_over_rounds(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada = enroll("ada")
    training = {"steps": 1, "learning_rate": 1.0, "min_learning_rate": 0.2}
    campaign_id = begin_campaign(operator, tmp_path, [ada], rounds=4, selection={"minimum": 1}, training=training)
    for _ in range(4):
        ada.train(adapter_bytes(tmp_path, 1.0))
    rates = [each["learning_rate"] for each in operator.items(f"/v1/campaigns/{campaign_id}/rounds")]
    assert rates == pytest.approx([0.2 + 0.4 * (1 + math.cos(math.pi * each / 4)) for each in range(4)])
    operator.wait_for(campaign_id, "completed")


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.usefixtures("coordinator")
def test_updates_that_sum_to_infinity_pause_the_campaign(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob], rounds=2)
    for _ in range(2):
        for agent in (ada, bob):
            agent.train(adapter_bytes(tmp_path, 3e38))
    campaign = operator.wait_for(campaign_id, "paused")
    assert campaign["rounds_closed"] == 1
    assert "q_proj.lora_A.weight: holds infinity" in campaign["reason"]
    norm = operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="update_norm")[0]["value"]
    assert norm == pytest.approx(3e38 * math.sqrt(14), rel=1e-6)
