"""Two coordinators on one PostgreSQL tell each other what they commit, and find it by themselves if nobody tells."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from coordinator.notifications.channel import MAX_BYTES
from coordinator.notifications.notifier import Kind
from coordinator.notifications.replicas import Outbox
from coordinator.settings import EngineSettings, Settings
from tests.support.operator import Operator
from tests.support.postgres import own_postgres
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator, running_coordinator

SOON_S = 60.0
"""Far less than the time between two polls, 600 s."""


def replicas(stack: ExitStack, folder: Path, url: str, poll_s: float) -> tuple[RunningCoordinator, RunningCoordinator]:
    """One with the engine, and one without it. They share a data folder."""
    settings = Settings(data_dir=folder, database_url=url, engine=EngineSettings(poll_s=poll_s, sweep_s=poll_s))
    first, second = (stack.enter_context(running_coordinator(settings, with_engine=has)) for has in (True, False))
    return first, second


@pytest.fixture
def pair(new_postgres: Callable[[], str], tmp_path: Path) -> Iterator[tuple[RunningCoordinator, RunningCoordinator]]:
    with ExitStack() as stack:
        yield replicas(stack, tmp_path / "data", new_postgres(), poll_s=600)


def wait_until_heard(pair: tuple[RunningCoordinator, RunningCoordinator]) -> None:
    """Wait until what the first says arrives at the second."""
    first, second = pair
    until = time.monotonic() + SOON_S
    with second.services.notifiers.events.subscribe("probe") as heard:
        while not second.run(heard.wait(0.05)):
            assert time.monotonic() < until, "nothing was heard"
            first.loop.call_soon_threadsafe(first.services.notifiers._notify, Kind.EVENTS, ["probe"])


@pytest.mark.deep
def test_agents_engine_and_watchers_of_one_replica_hear_what_the_other_commits(
    pair: tuple[RunningCoordinator, RunningCoordinator], tmp_path: Path
) -> None:
    with_engine, without = pair
    wait_until_heard((with_engine, without))
    wait_until_heard((without, with_engine))
    operator = Operator(without.url, with_engine.key)  # a campaign that is created here is due there
    agents = [ScriptedAgent(without.url, operator.token(), name) for name in ("ada", "bob")]
    campaign = operator.post("/v1/campaigns", campaign_body())
    seen: list[str] = []

    def watch() -> None:
        watcher = Operator(without.url, with_engine.key)
        with watcher.http.stream(
            "GET", f"/v1/campaigns/{campaign['id']}/events", headers={"Accept": "text/event-stream"}
        ) as reply:
            seen.extend(line for line in reply.iter_lines() if line.startswith("event:"))

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.monotonic()
    for agent in agents:
        agent.prepare()
    agents[0].init(adapter_bytes(tmp_path))
    for agent in agents:
        agent.train(adapter_bytes(tmp_path, 1.0))
    watching.join(SOON_S)
    assert not watching.is_alive()
    assert seen[-1] == "event: campaign-moved"
    assert time.monotonic() - began < SOON_S
    for agent in agents:
        agent.http.close()


@pytest.mark.deep
def test_replicas_listen_again_once_the_database_is_back(tmp_path: Path) -> None:
    with own_postgres() as server, ExitStack() as stack:
        pair = replicas(stack, tmp_path / "data", server.url, poll_s=0.2)
        wait_until_heard(pair)
        server.stop()
        server.start()
        wait_until_heard(pair)
        wait_until_heard((pair[1], pair[0]))


def test_what_is_told_is_told_once_and_in_texts_that_the_database_takes() -> None:
    outbox = Outbox()
    ids = [f"{number:032x}" for number in range(1000)]
    outbox.add(Kind.TASKS, ids)
    outbox.add(Kind.TASKS, ids)
    outbox.add(Kind.EVENTS, ["", "one"])
    texts = outbox.take()
    assert len(texts) == 6
    assert max(len(text.encode()) for text in texts) <= MAX_BYTES
    told: list[Any] = [key for text in texts for key in json.loads(text)[1]]
    assert sorted(told) == sorted([*ids, "", "one"])
    assert outbox.take() == []
