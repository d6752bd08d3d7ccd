"""SCAFFOLD's client state, c_k, through everything that can happen to an update.

The server's c is Σ q_k c_k over all clients, where c_k belongs to the client's last committed update. This must always
hold to the accuracy of float32. The tests check it against the files in the agents' homes.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared.adapters.files import slot_name, write_adapter
from shared.wire.tasks.assignments import TrainAssignment
from shared.wire.tasks.results import Result
from tests.agent.federation import DEADLINE_S, Federation, Killed, Send
from tests.agent.test_agent import record
from tests.support.ledgers import ledger_text
from tests.support.processes import wait_until
from tests.support.suite.tiers import deep, soak


@pytest.mark.parametrize("by", ["examples", deep("uniform")])
def test_c_is_the_weighted_mean_of_the_client_states(federation: Federation, by: str) -> None:
    federation.start(weighting={"by": by})
    federation.complete()
    federation.check_sum(uniform=by == "uniform")
    assert {task.committed_update is None for task in federation.tasks if task.round == 1} == {True}
    assert {task.committed_update is None for task in federation.tasks if task.round > 1} == {False}
    assert federation.restarts() == []


@pytest.mark.deep
def test_clients_that_sit_out_rounds_resume_from_their_last_state(federation: Federation) -> None:
    federation.start(rounds=7, selection={"minimum": 2, "clients_per_round": 2})
    federation.complete()
    assert len({tuple(federation.contributors(number)) for number in range(1, 8)}) > 1
    federation.check_sum()
    assert federation.restarts() == []


@pytest.mark.deep
def test_a_refused_update_leaves_the_committed_client_state(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(monkeypatch, nan_in=[[2, 1], [3, 1]])
    federation.start()
    federation.complete()
    assert [federation.contributors(number) for number in (1, 2, 3, 4)] == [
        ["ada", "bob", "cyd"],
        ["ada", "cyd"],
        ["ada", "cyd"],
        ["ada", "bob", "cyd"],
    ]
    federation.check_sum()
    assert federation.restarts() == []


@pytest.mark.deep
def test_a_late_update_leaves_the_committed_client_state(federation: Federation) -> None:
    async def come_late(task: TrainAssignment, result: Result, send: Send) -> None:
        federation.coordinator.clock.move(DEADLINE_S + 1)
        await asyncio.to_thread(federation.wait_until_closed, task.round)
        await send()

    async def after_the_others(task: TrainAssignment, result: Result, send: Send) -> None:
        def others_are_done() -> bool:
            path = f"/v1/campaigns/{federation.campaign_id}/tasks"
            done = federation.operator.items(path, state="done", round=task.round)
            return len([task for task in done if task["kind"] == "train"]) == 2

        await asyncio.to_thread(wait_until, others_are_done, "the others")
        await come_late(task, result, send)

    federation.mishaps = {(2, 1): after_the_others, (3, 2): after_the_others}
    federation.start()
    federation.complete()
    assert [federation.contributors(number) for number in (2, 3)] == [["ada", "cyd"], ["ada", "bob"]]
    federation.check_sum()
    assert federation.restarts() == []


@pytest.mark.deep
def test_an_update_that_came_during_a_pause_counts(federation: Federation) -> None:
    async def pause(task: TrainAssignment, result: Result, send: Send) -> None:
        assert federation.operator.campaign(federation.campaign_id, "pause").is_success
        await send()
        assert federation.operator.campaign(federation.campaign_id, "resume").is_success

    federation.mishaps = {(2, 0): pause, (3, 2): pause}
    federation.start()
    federation.complete()
    assert len(federation.contributors(2)) == len(federation.contributors(3)) == 3
    federation.check_sum()
    assert federation.restarts() == []


@pytest.mark.deep
@pytest.mark.parametrize("back_to", [3, soak(1)])
def test_client_state_of_a_rolled_back_round_is_not_used(federation: Federation, back_to: int) -> None:
    """The campaign is rolled back to an earlier round while bob sends its update of round 4."""
    rolled_back: list[TrainAssignment] = []

    async def roll_back(task: TrainAssignment, result: Result, send: Send) -> None:
        rolled_back.extend(federation.tasks)
        federation.tasks.clear()
        path = f"/v1/campaigns/{federation.campaign_id}"
        federation.operator.post(f"{path}/rollback", {"round": back_to})
        federation.operator.post(f"{path}/resume")
        await send()

    federation.mishaps = {(4, 1): roll_back}
    federation.start(rounds=6)
    federation.complete()
    federation.check_sum()
    assert federation.restarts() == []  # the agents still have the client state of their older deltas
    committed_update = {(task.round, task.client_number): task.committed_update for task in rolled_back}
    again = [
        task
        for task in federation.tasks
        if (task.round, task.client_number) in committed_update and task.round == back_to + 1
    ]
    assert again
    assert all(task.committed_update == committed_update[task.round, task.client_number] for task in again)


@pytest.mark.deep
@pytest.mark.parametrize("was_accepted", [False, soak(True)])
def test_an_agent_that_is_killed_while_it_sends_its_result_resumes(federation: Federation, was_accepted: bool) -> None:
    async def die(task: TrainAssignment, result: Result, send: Send) -> None:
        if was_accepted:
            await send()
        raise Killed

    federation.mishaps = {(2, 1): die}
    federation.start()
    bob = federation.homes[1]
    wait_until(lambda: bob.error, "bob's end")
    assert isinstance(bob.error, Killed)
    with bob.running():
        federation.complete()
    assert len(federation.contributors(2)) == 3
    federation.check_sum()
    assert federation.restarts() == []


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def of_another_model(path: Path) -> None:
    write_adapter(path, {slot_name("c_k", "a.lora_A.weight"): np.ones((2, 2), dtype=np.float32)})


@pytest.mark.soak
@pytest.mark.parametrize("spoil", [Path.unlink, truncated, of_another_model])
def test_a_lost_client_state_restarts_the_algorithm_for_all(
    federation: Federation, spoil: Callable[[Path], None]
) -> None:
    async def lose(task: TrainAssignment, result: Result, send: Send) -> None:
        assert result.kind == "train"
        # the agent keeps the client state before it sends the result
        spoil(federation.client_states(task.client_number)[result.delta])
        await send()

    federation.mishaps = {(2, 1): lose}
    federation.start(rounds=5)
    federation.complete()
    assert federation.restarts() == [{"round": 3, "agents": ["bob"]}]
    adapters = federation.operator.items(f"/v1/campaigns/{federation.campaign_id}/adapters")
    lost = [[share["client_state_lost"] for share in adapter["contributions"]] for adapter in adapters]
    assert lost == [[], [False] * 3, [False] * 3, [False, True, False], [False] * 3, [False] * 3]
    for task in federation.tasks:
        starts = task.round in (1, 4)
        assert (task.committed_update is None, task.broadcast is None) == (starts, starts), task.round
    federation.check_sum()
    assert ledger_text(federation.homes[1].folder).count('"client_state_lost":true') == 1


@pytest.mark.soak
def test_mishaps_together(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """One campaign with clients that sit out, refused updates, a rollback and lost client state."""

    async def roll_back(task: TrainAssignment, result: Result, send: Send) -> None:
        for client in range(3):
            federation.mishaps.pop((8, client), None)
        path = f"/v1/campaigns/{federation.campaign_id}"
        federation.operator.post(f"{path}/rollback", {"round": 4})
        federation.operator.post(f"{path}/resume")
        await send()

    async def lose(task: TrainAssignment, result: Result, send: Send) -> None:
        assert result.kind == "train"
        federation.client_states(task.client_number)[result.delta].unlink()
        await send()

    record(monkeypatch, nan_in=[[3, 0], [6, 2], [9, 1]])
    federation.mishaps = {(8, client): roll_back for client in range(3)} | {(10, 0): lose, (10, 1): lose}
    federation.start(rounds=14, selection={"minimum": 1, "clients_per_round": 2}, retention={"server_state": 4})
    federation.complete()
    federation.check_sum()
    assert federation.restarts()
    assert federation.homes[0].error is federation.homes[1].error is federation.homes[2].error is None
    assert all(len(federation.client_states(client)) <= 5 for client in range(3))
