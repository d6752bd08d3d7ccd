"""Several engines on one database, dead engines, and corrupted bytes."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from coordinator.app import create_services
from coordinator.database.sessions import Database
from coordinator.engine import loop
from coordinator.engine.closing import AggregatedRound
from coordinator.engine.loop import Engine
from coordinator.services import Services
from coordinator.settings import EngineSettings, Settings
from tests.coordinator.engine.looking import look
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator

Enroll = Callable[..., ScriptedAgent]


def polling_settings(data_dir: Path, database_url: str | None) -> Settings:
    """Settings of processes that find each other's work by polling."""
    engine = EngineSettings(poll_s=0.05, sweep_s=0.1)
    return quick_settings(data_dir, database_url).model_copy(update={"engine": engine})


@contextmanager
def more_engines(running: RunningCoordinator, n_engines: int) -> Iterator[None]:
    """Further engines, each with its own connections and notifiers, as in other processes."""

    async def start() -> list[tuple[asyncio.Task[None], Database]]:
        others = [create_services(running.services.settings, running.clock) for _ in range(n_engines)]
        return [(asyncio.create_task(Engine(each).run()), each.database) for each in others]

    async def stop() -> None:
        for task, database in started:
            await database.cancel(task)
            await database.close()

    started = running.run(start())
    try:
        yield
    finally:
        running.run(stop())


@pytest.mark.deep
def test_several_engines_do_each_step_once(data_dir: Path, database_url: str | None, tmp_path: Path) -> None:
    with (
        running_coordinator(polling_settings(data_dir, database_url), with_engine=False) as running,
        ExitStack() as stack,
    ):
        operator = Operator(running.url, running.key)
        agents = [ScriptedAgent(running.url, operator.token(), name) for name in ("ada", "bob", "cyd")]
        for agent in agents:
            stack.callback(agent.http.close)
        found = []
        for n_engines in (1, 3):
            with more_engines(running, n_engines):
                campaign_id = begin_campaign(operator, tmp_path, agents, rounds=3)
                for fill in (1.0, 2.0, 3.0):
                    for agent in agents:
                        agent.train(adapter_bytes(tmp_path, fill))
                operator.wait_for(campaign_id, "completed")
            events = operator.items(f"/v1/campaigns/{campaign_id}/events")
            assert [event["number"] for event in events] == list(range(1, len(events) + 1))
            adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
            found.append((sorted(event["type"] for event in events), [row["blob"]["sha256"] for row in adapters]))
        assert found[0] == found[1]
        assert found[0][0].count("round-closed") == 3


def test_an_engine_that_lost_its_claim_changes_nothing(
    data_dir: Path, database_url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps during an aggregation until its claim has expired; another engine closes the round meanwhile."""
    awake = asyncio.Event()
    asleep = threading.Event()
    aggregate_round = loop.aggregate_round

    async def sleepy(services: Services, campaign_id: str) -> AggregatedRound:
        closed = await aggregate_round(services, campaign_id)
        if not asleep.is_set():
            asleep.set()
            await awake.wait()
        return closed

    monkeypatch.setattr(loop, "aggregate_round", sleepy)
    with running_coordinator(quick_settings(data_dir, database_url), with_engine=False) as running:
        operator = Operator(running.url, running.key)
        agent = ScriptedAgent(running.url, operator.token(), "ada")
        old, new = Engine(running.services), Engine(running.services)
        campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}, rounds=1))["id"]
        for work in (agent.prepare, lambda: agent.init(adapter_bytes(tmp_path))):
            assert running.run(look(new)) == [campaign_id]
            work()
        assert running.run(look(new)) == [campaign_id]
        agent.train(adapter_bytes(tmp_path, 2.0))
        lost = asyncio.run_coroutine_threadsafe(look(old), running.loop)
        assert asleep.wait(30)
        assert running.run(look(new)) == []  # the claim is still valid
        running.clock.move(61)
        assert running.run(look(new)) == [campaign_id]
        done = operator.wait_for(campaign_id, "completed")
        events = operator.items(f"/v1/campaigns/{campaign_id}/events")
        running.loop.call_soon_threadsafe(awake.set)
        assert lost.result(30) == [campaign_id]
        running.run(old._release(campaign_id, "the old token", 0, "from the dead"))
        assert operator.items(f"/v1/campaigns/{campaign_id}/events") == events
        assert operator.get(f"/v1/campaigns/{campaign_id}") == done
        adapter = operator.get(f"/v1/campaigns/{campaign_id}/adapters/1")
        assert operator.http.get(f"/v1/blobs/{adapter['blob']['sha256']}").is_success, (
            "the late engine deleted its bytes"
        )
        agent.http.close()


def blob_file(running: RunningCoordinator) -> Path:
    return next(path for path in (running.services.settings.data_dir / "updates").rglob("*") if path.is_file())


def test_bytes_that_rotted_or_are_gone_pause_the_campaign(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob])
    ada.train(adapter_bytes(tmp_path, 1.0))
    path = blob_file(coordinator)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    bob.train(adapter_bytes(tmp_path, 3.0))
    reason = operator.wait_for(campaign_id, "paused")["reason"]
    assert "cannot be aggregated" in reason
    assert path.name in reason
    path.unlink()
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    operator.wait_until(
        lambda: operator.get(f"/v1/campaigns/{campaign_id}"), lambda found: "no blob" in (found["reason"] or "")
    )
    path.write_bytes(good)  # from a backup
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    campaign = operator.wait_for(campaign_id, "completed")
    assert campaign["reason"] is None


def test_a_coordinator_goes_on_where_it_was_stopped(data_dir: Path, database_url: str | None, tmp_path: Path) -> None:
    settings = quick_settings(data_dir, database_url)
    with running_coordinator(settings) as running:
        operator = Operator(running.url, running.key)
        agents = [ScriptedAgent(running.url, operator.token(), name) for name in ("ada", "bob")]
        campaign_id = begin_campaign(operator, tmp_path, agents)
        agents[0].train(adapter_bytes(tmp_path, 1.0))
        lease = agents[1].lease("train")
        digest = agents[1].upload(lease, "delta", adapter_bytes(tmp_path, 3.0))
    with running_coordinator(settings) as running:
        operator = Operator(running.url, running.key)
        for agent in agents:
            agent.http.base_url = running.url
        running.clock.move(89)  # leases get their full time again
        assert agents[1].renew(lease).json()["directive"] == "continue"
        assert agents[1].result(lease, agents[1].train_result(digest)).status_code == 200
        operator.wait_for(campaign_id, "completed")
        for agent in agents:
            agent.http.close()


def test_a_stopped_engine_leaves_no_lock_behind(data_dir: Path) -> None:
    """Engines can be stopped at any moment; an unfinished write would lock SQLite for all others."""
    with running_coordinator(polling_settings(data_dir, None), with_engine=False) as running:
        operator = Operator(running.url, running.key)
        for number in range(8):
            operator.post("/v1/campaigns", campaign_body(name=f"c{number}"))
            with more_engines(running, 2):
                operator.post("/v1/campaigns", campaign_body(name=f"d{number}"))
        assert len(operator.items("/v1/campaigns")) == 16
