"""SCAFFOLD's client state when updates count in a later round, and when clients join."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.settings import Settings
from shared.wire.tasks.assignments import TrainAssignment
from shared.wire.tasks.results import Result
from tests.agent.federation import DEADLINE_S, Federation, Mishap, Send
from tests.support.driven import patient_settings
from tests.support.processes import wait_until

LATE_COUNTS = {"late_updates": "next_round"}


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return patient_settings


def late(federation: Federation) -> Mishap:
    """Send after the round has closed without this update, and before any other update of the next round."""

    async def send_late(task: TrainAssignment, result: Result, send: Send) -> None:
        def others_are_done() -> bool:
            path = f"/v1/campaigns/{federation.campaign_id}/tasks"
            done = federation.operator.items(path, state="done", round=task.round)
            return len([task for task in done if task["kind"] == "train"]) == len(federation.homes) - 1

        await asyncio.to_thread(wait_until, others_are_done, "the others")
        others = [client for client in range(len(federation.homes)) if client != task.client_number]
        arrived = threading.Event()

        async def after_the_late_one(_task: TrainAssignment, _result: Result, send_own: Send) -> None:
            await asyncio.to_thread(arrived.wait, 60)
            await send_own()

        federation.mishaps |= {(task.round + 1, client): after_the_late_one for client in others}
        federation.coordinator.clock.move(DEADLINE_S + 1)
        try:
            await asyncio.to_thread(federation.wait_until_closed, task.round)
            await send()
        finally:  # the agent may be cancelled
            arrived.set()

    return send_late


def staleness(federation: Federation, number: int) -> dict[str, int]:
    adapter = federation.operator.get(f"/v1/campaigns/{federation.campaign_id}/adapters/{number}")
    return {share["agent_name"]: share["staleness"] for share in adapter["contributions"]}


@pytest.mark.deep
def test_an_accepted_late_update_commits_its_client_state(federation: Federation) -> None:
    """Cyd is late in round 2 and resumes from that update in round 4. Bob is late in round 4."""
    federation.mishaps = {(2, 2): late(federation), (4, 1): late(federation)}
    federation.start(rounds=6, stragglers=LATE_COUNTS)
    federation.complete()
    assert [federation.contributors(number) for number in (2, 4)] == [["ada", "bob"], ["ada", "cyd"]]
    assert staleness(federation, 3) == {"ada": 0, "bob": 0, "cyd": 1}
    assert staleness(federation, 5) == {"ada": 0, "bob": 1, "cyd": 0}
    federation.check_sum()
    assert federation.restarts() == []


@pytest.mark.deep
def test_a_late_update_from_before_a_restart_is_not_used(federation: Federation) -> None:
    async def lose(task: TrainAssignment, result: Result, send: Send) -> None:
        assert result.kind == "train"
        federation.client_states(task.client_number)[result.delta].unlink()
        await send()

    # bob finds in round 3 that its client state of round 2 is lost, while cyd trains with its own
    federation.mishaps = {(2, 1): lose, (3, 2): late(federation)}
    federation.start(rounds=6, stragglers=LATE_COUNTS)
    federation.complete()
    assert federation.restarts() == [{"round": 3, "agents": ["bob"]}]
    assert staleness(federation, 4) == {"ada": 0, "bob": 0, "cyd": 0}
    federation.check_sum()


@pytest.mark.soak
@pytest.mark.parametrize("by", ["examples", "uniform"])
def test_c_is_the_mean_over_all_clients_also_after_one_has_joined(federation: Federation, by: str) -> None:
    async def wait_for_dan(task: TrainAssignment, result: Result, send: Send) -> None:
        await asyncio.to_thread(federation.join, "dan", 50)
        path = f"/v1/campaigns/{federation.campaign_id}"
        ready = ["prepared"] * 4
        read = lambda: [part["state"] for part in federation.operator.get(path)["participants"]]  # noqa: E731
        await asyncio.to_thread(federation.operator.wait_until, read, lambda states: states == ready)
        await send()

    federation.mishaps = {(2, 0): wait_for_dan}
    federation.start(rounds=5, weighting={"by": by})
    federation.complete()
    assert [len(federation.contributors(number)) for number in (2, 3, 4, 5)] == [3, 4, 4, 4]
    federation.check_sum(uniform=by == "uniform")
    assert federation.restarts() == []
