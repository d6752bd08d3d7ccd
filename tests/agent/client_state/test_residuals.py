"""What rounding took from an update is added to the next one if that update counted, whatever happens between them.

The server's c tells: it is the sum of all extras as they arrived, so it is Σ q_k (c_k − e_k), where c_k and e_k belong
to the client's last counted update. If a residual of another update were used, or one twice, c would be off by it.
"""

import asyncio

import pytest

from shared.adapters.files import AdapterFile
from shared.wire.tasks.assignments import TrainAssignment
from shared.wire.tasks.results import Result
from tests.agent.federation import DEADLINE_S, Federation, Killed, Send
from tests.support.processes import wait_until
from tests.support.suite.tiers import deep


def again(federation: Federation, **changes: object) -> None:
    """Begin another campaign of the agents that run."""
    body = federation.operator.get(f"/v1/campaigns/{federation.campaign_id}")["spec"]
    federation.campaign_id = federation.operator.post("/v1/campaigns", body | {"name": "again", **changes})["id"]


def final_adapter(federation: Federation) -> str:
    campaign = federation.operator.get(f"/v1/campaigns/{federation.campaign_id}")
    path = f"/v1/campaigns/{federation.campaign_id}/adapters/{campaign['final_adapter']}"
    return str(federation.operator.get(path)["blob"]["sha256"])


@pytest.mark.parametrize("wire", ["int8", deep("bfloat16")])
def test_scaffolds_c_is_the_mean_of_what_was_sent(federation: Federation, wire: str) -> None:
    federation.start(wire=wire, retention={"server_state": 2})
    federation.complete()
    federation.check_sum()
    for client in range(3):
        kept = federation.residuals(client)
        assert kept.keys() == federation.client_states(client).keys()
        assert len(kept) == 3, "two rounds' and the newest"
        with AdapterFile(next(iter(kept.values()))) as file:
            assert {name.partition("/")[0] for name in file.tensors} == {"delta", "delta_c"}
            assert all(file.read(name).any() for name in file.tensors)
    assert federation.restarts() == []


@pytest.mark.deep
def test_the_residual_of_an_update_that_came_too_late_is_not_used(federation: Federation) -> None:
    async def after_the_others(task: TrainAssignment, result: Result, send: Send) -> None:
        def others_are_done() -> bool:
            path = f"/v1/campaigns/{federation.campaign_id}/tasks"
            done = federation.operator.items(path, state="done", round=task.round)
            return len([task for task in done if task["kind"] == "train"]) == 2

        await asyncio.to_thread(wait_until, others_are_done, "the others")
        federation.coordinator.clock.move(DEADLINE_S + 1)
        await asyncio.to_thread(federation.wait_until_closed, task.round)
        await send()

    federation.mishaps = {(2, 1): after_the_others}
    federation.start(wire="int8")
    federation.complete()
    assert federation.contributors(2) == ["ada", "cyd"]
    of_bob = {task.round: task.committed_update for task in federation.tasks if task.client_number == 1}
    assert of_bob[3] == of_bob[2] is not None
    assert len(federation.residuals(1)) == 4, "the late update has one too"
    federation.check_sum()
    assert federation.restarts() == []


@pytest.mark.deep
def test_a_run_that_was_rolled_back_ends_as_an_undisturbed_one(federation: Federation) -> None:
    async def roll_back(task: TrainAssignment, result: Result, send: Send) -> None:
        path = f"/v1/campaigns/{federation.campaign_id}"
        federation.operator.post(f"{path}/rollback", {"round": 2})
        federation.operator.post(f"{path}/resume")
        await send()

    federation.start(wire="int8")
    federation.complete()
    undisturbed = final_adapter(federation)
    federation.mishaps = {(4, 1): roll_back}
    again(federation)
    federation.complete()
    assert "campaign-rolled-back" in federation.operator.events(federation.campaign_id)
    assert final_adapter(federation) == undisturbed
    again(federation, wire="float32")
    federation.complete()
    assert final_adapter(federation) != undisturbed


@pytest.mark.deep
@pytest.mark.parametrize("was_accepted", [False, True])
def test_an_agent_that_was_killed_while_it_sent_its_result_ends_as_an_undisturbed_one(
    federation: Federation, was_accepted: bool
) -> None:
    async def die(task: TrainAssignment, result: Result, send: Send) -> None:
        if was_accepted:
            await send()
        raise Killed

    federation.start(wire="int8")
    federation.complete()
    undisturbed = final_adapter(federation)
    federation.mishaps = {(2, 1): die}
    again(federation)
    bob = federation.homes[1]
    wait_until(lambda: bob.error, "bob's end")
    assert isinstance(bob.error, Killed)
    with bob.running():
        federation.complete()
    assert final_adapter(federation) == undisturbed
    federation.check_sum()


@pytest.mark.deep
def test_a_lost_residual_is_said_and_costs_no_more_than_itself(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[str] = []

    async def lose(task: TrainAssignment, result: Result, send: Send) -> None:
        assert result.kind == "train"
        federation.residuals(task.client_number)[result.delta].unlink()
        lost.append(result.delta)
        await send()

    federation.mishaps = {(2, 1): lose}
    federation.start(wire="int8", algorithm={"name": "fedavg"})
    federation.complete()
    [committed] = [task.committed_update for task in federation.tasks if (task.round, task.client_number) == (3, 1)]
    assert lost == [committed]
    warning = "what rounding to int8 took from this agent's last counted update is no longer on this machine"
    assert [warning in record.getMessage() for record in caplog.records if "rounding" in record.getMessage()] == [True]
    assert [len(federation.contributors(number)) for number in (1, 2, 3, 4)] == [3, 3, 3, 3]
    assert federation.restarts() == []
