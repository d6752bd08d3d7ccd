"""Held-out evaluation and the choice of the best adapter."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.messages import evaluated
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]


def begin(operator: Operator, agents: dict[ScriptedAgent, int], folder: Path, **changes: object) -> str:
    """agents: number of held-out rows per agent."""
    campaign_id: str = operator.post("/v1/campaigns", campaign_body(**changes))["id"]
    for agent, n_held_out in agents.items():
        agent.prepare(n_held_out=n_held_out)
    next(iter(agents)).init(adapter_bytes(folder))
    return campaign_id


@pytest.mark.usefixtures("either_coordinator")
def test_every_nth_adapter_is_evaluated_and_the_best_is_named(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin(operator, {ada: 5, bob: 0}, tmp_path, rounds=5, evaluation={"every": 2})
    losses = {0: 3.0, 2: 1.0, 4: 2.0, 5: 1.5}
    for number in range(6):
        if number in losses:
            ada.evaluate(losses[number])
        if number < 5:
            ada.train(adapter_bytes(tmp_path, 1.0))
            bob.train(adapter_bytes(tmp_path, 1.0))  # without held-out rows it gets no evaluate task
    campaign = operator.wait_for(campaign_id, "completed")
    assert (campaign["final_adapter"], campaign["best_adapter"]) == (5, 2)
    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert [row["metrics"].get("held_out_loss") for row in adapters] == [3.0, None, 1.0, None, 2.0, 1.5]


@pytest.mark.usefixtures("coordinator")
def test_losses_are_weighted_by_tokens(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin(operator, {ada: 5, bob: 5}, tmp_path, rounds=1, evaluation={"every": 1})
    ada.evaluate(1.0, n_tokens=300)
    bob.evaluate(3.0, n_tokens=100)
    ada.train(adapter_bytes(tmp_path, 1.0))
    bob.train(adapter_bytes(tmp_path, 1.0))
    ada.evaluate(1e308, n_tokens=10**6)  # even for a huge loss the weighted mean stays finite
    bob.evaluate(1e308, n_tokens=10**6)
    operator.wait_for(campaign_id, "completed")
    rows = operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="held_out_loss")
    assert [row["value"] for row in rows if row["client_number"] is None] == [1.5, 1e308]


@pytest.mark.usefixtures("coordinator")
def test_preferences_are_weighted_by_pairs_and_have_an_accuracy(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    held_out = {ada: 5, bob: 5}
    campaign_id = begin(operator, held_out, tmp_path, kind="dpo", rounds=1, evaluation={"every": 1})
    lease = ada.lease("evaluate")
    whole = evaluated(1.0, n_rows=3, n_tokens=3, held_out_accuracy=1.0, held_out_margin=2.0)
    for wrong, problem in (
        ({"held_out_accuracy": 1.5}, "1.5 is above 1"),
        ({"held_out_accuracy": None}, "required in evaluation of kind dpo"),
        ({"held_out_margin": None}, "required in evaluation of kind dpo"),
        ({"held_out_rows": 0}, "0 is below 1"),
        ({"held_out_tokens": 1.7e308}, "1.7e+308 is above 9.0072e+15"),
        ({"held_out_bliss": 1.0}, "unknown in evaluation of kind dpo; known are held_out_loss, "),
        ({"train_loss_mean": 1.0}, "unknown in evaluation of kind dpo; known are held_out_loss, "),
    ):
        metrics = {name: value for name, value in (whole["metrics"] | wrong).items() if value is not None}
        refused = ada.result(lease, whole | {"metrics": metrics})
        assert refused.status_code == 422
        (error,) = refused.json()["errors"]
        assert error["field"].endswith(f"metrics.{next(iter(wrong))}")
        assert error["message"].startswith(problem)
    good = evaluated(0.5, n_rows=3, n_tokens=9000, held_out_accuracy=1.0, held_out_margin=2.0)
    assert ada.result(lease, good).status_code == 200
    bob.evaluate(1.5, n_tokens=10, n_rows=1, held_out_accuracy=0.0, held_out_margin=-2.0)
    for agent in held_out:
        agent.train(adapter_bytes(tmp_path, 1.0))
    for agent in held_out:
        agent.evaluate(0.25, held_out_accuracy=0.5, held_out_margin=0.0)
    operator.wait_for(campaign_id, "completed")
    found: dict[str, list[tuple[int | None, float]]] = {}
    for row in operator.items(f"/v1/campaigns/{campaign_id}/metrics", round=0):
        found.setdefault(row["name"], []).append((row["client_number"], row["value"]))
    assert found == {
        "held_out_loss": [(0, 0.5), (1, 1.5), (None, 0.75)],
        "held_out_tokens": [(0, 9000), (1, 10)],
        "held_out_rows": [(0, 3), (1, 1)],
        "held_out_accuracy": [(0, 1.0), (1, 0.0), (None, 0.75)],
        "held_out_margin": [(0, 2.0), (1, -2.0), (None, 1.0)],
    }


@pytest.mark.usefixtures("coordinator")
def test_agents_can_read_the_reference_adapter_of_preferences(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    body = {"kind": "dpo", "dpo": {"reference": "initial"}, "rounds": 2, "evaluation": {"every": 1}}
    campaign_id = begin(operator, {ada: 5, bob: 0}, tmp_path, **body)
    initial = operator.get(f"/v1/campaigns/{campaign_id}/adapters/0")["blob"]
    ada.evaluate(1.0, held_out_accuracy=0.5, held_out_margin=0.0)
    for number in (1, 2):
        for agent in (ada, bob):
            lease = agent.lease("train")
            assert lease["assignment"]["reference"] == initial
            assert agent.http.get(f"/v1/blobs/{initial['sha256']}").status_code == 200
            agent.train(adapter_bytes(tmp_path, float(number)), lease)
        lease = ada.lease("evaluate")
        assert lease["assignment"]["reference"] == initial
        result = evaluated(1.0, n_rows=3, n_tokens=3, held_out_accuracy=0.5, held_out_margin=0.1)
        assert ada.result(lease, result).status_code == 200
    operator.wait_for(campaign_id, "completed")
    assert bob.http.get(f"/v1/blobs/{initial['sha256']}").status_code == 403


@pytest.mark.usefixtures("coordinator")
def test_fine_tuning_keeps_no_accuracy(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin(operator, {ada: 5, bob: 0}, tmp_path, rounds=1, evaluation={"every": 1})
    refused = ada.result(ada.lease("evaluate"), evaluated(1.0, held_out_accuracy=0.5))
    assert refused.status_code == 422
    ada.evaluate(1.0)
    for agent in (ada, bob):
        agent.train(adapter_bytes(tmp_path, 1.0))
    ada.evaluate(1.0)
    operator.wait_for(campaign_id, "completed")
    names = {row["name"] for row in operator.items(f"/v1/campaigns/{campaign_id}/metrics")}
    assert "held_out_loss" in names
    assert not names & {"held_out_accuracy", "held_out_margin"}


def test_evaluations_that_fail_or_never_come_block_nothing(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = enroll("ada"), enroll("bob"), enroll("cyd")
    deadline = {"round_s": 1000}
    held_out = {ada: 5, bob: 5, cyd: 5}
    campaign_id = begin(operator, held_out, tmp_path, rounds=1, evaluation={"every": 1}, deadline=deadline)
    for agent in held_out:
        agent.failure(agent.lease("evaluate"), kind="crash", message="no")
        agent.train(adapter_bytes(tmp_path, 1.0))
    ada.failure(ada.lease("evaluate"), kind="crash", message="no")
    bob.evaluate(1.25)
    operator.wait_for(campaign_id, "finishing")
    coordinator.clock.move(500)
    lease = cyd.lease("evaluate")
    assert operator.get(f"/v1/campaigns/{campaign_id}")["state"] == "finishing"
    coordinator.clock.move(501)
    campaign = operator.wait_for(campaign_id, "completed")
    assert campaign["best_adapter"] == 1
    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert [row["metrics"].get("held_out_loss") for row in adapters] == [None, 1.25]
    assert cyd.result(lease, evaluated(0.1, n_rows=1, n_tokens=1)).status_code == 410
