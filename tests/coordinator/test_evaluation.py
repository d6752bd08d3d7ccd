"""Held-out evaluation, and which adapter is the best."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]


def begin(operator: Operator, agents: dict[ScriptedAgent, int], folder: Path, **changes: object) -> str:
    """agents: with how many held-out rows each."""
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
            bob.train(adapter_bytes(tmp_path, 1.0))  # without held-out rows it is never asked to evaluate
    campaign = operator.wait_for(campaign_id, "completed")
    assert (campaign["final_adapter"], campaign["best_adapter"]) == (5, 2)
    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert [row["held_out_loss"] for row in adapters] == [3.0, None, 1.0, None, 2.0, 1.5]


@pytest.mark.usefixtures("coordinator")
def test_losses_are_weighed_by_their_tokens(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin(operator, {ada: 5, bob: 5}, tmp_path, rounds=1, evaluation={"every": 1})
    ada.evaluate(1.0, n_tokens=300)
    bob.evaluate(3.0, n_tokens=100)
    ada.train(adapter_bytes(tmp_path, 1.0))
    bob.train(adapter_bytes(tmp_path, 1.0))
    ada.evaluate(1e308, n_tokens=10**6)  # whatever is said, the number stays a number
    bob.evaluate(1e308, n_tokens=10**6)
    operator.wait_for(campaign_id, "completed")
    rows = operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="held_out_loss")
    assert [row["value"] for row in rows if row["client_number"] is None] == [1.5, 1e308]


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
    assert [row["held_out_loss"] for row in adapters] == [None, 1.25]
    assert cyd.result(lease, {"kind": "evaluate", "loss": 0.1, "n_rows": 1, "n_tokens": 1}).status_code == 410
