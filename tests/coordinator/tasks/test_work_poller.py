"""Agents that wait hear of tasks that another process adds, by few queries, and by none while nothing happens."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from coordinator.app import create_services
from coordinator.engine.loop import Engine
from coordinator.settings import EngineSettings, Settings
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.server import RunningCoordinator, running_coordinator
from tests.support.suite.costs import Meter

POLL_S = 0.02


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    return Meter(monkeypatch)


@pytest.fixture
def without_engine(meter: Meter, data_dir: Path) -> Iterator[RunningCoordinator]:  # it counts
    settings = Settings(data_dir=data_dir, engine=EngineSettings(poll_s=POLL_S, sweep_s=600))
    with running_coordinator(settings, with_engine=False) as running:
        yield running


class Waiting:
    """An agent that waits for work, in a thread."""

    def __init__(self, agent: ScriptedAgent) -> None:
        self.replies: list[httpx.Response] = []
        self._thread = threading.Thread(target=lambda: self.replies.append(agent.ask(20)))
        self._thread.start()

    def answered(self) -> httpx.Response:
        self._thread.join(20)
        return self.replies[0]


def wait_until_waiting(coordinator: RunningCoordinator, count: int) -> None:
    until = time.monotonic() + 10
    while len(coordinator.services.notifiers.tasks.keys) < count:
        assert time.monotonic() < until
        time.sleep(0.01)


def tick_elsewhere(settings: Settings) -> None:
    """Have the engine of another process do what is due."""

    async def work() -> None:
        services = create_services(settings)
        engine = Engine(services)
        for campaign_id in await engine._due():
            await engine._work(campaign_id)
        await services.close()

    asyncio.run(work())


def test_a_waiting_agent_gets_a_task_of_another_process(without_engine: RunningCoordinator, meter: Meter) -> None:
    operator = Operator(without_engine.url, without_engine.key)
    agents = [ScriptedAgent(without_engine.url, operator.token(), name) for name in ("ada", "bob")]
    operator.post("/v1/campaigns", campaign_body())
    waiting = [Waiting(agent) for agent in agents]
    wait_until_waiting(without_engine, len(agents))
    time.sleep(5 * POLL_S)
    with meter.measured() as rest:
        time.sleep(10 * POLL_S)
    assert not rest.statements, "something is asked although nothing was committed"
    tick_elsewhere(without_engine.services.settings)
    assert [each.answered().status_code for each in waiting] == [201, 201]
    for agent in agents:
        agent.http.close()
