"""A PostgreSQL that goes away under a running coordinator: everybody waits, and the log says so once."""

import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from fedloom.client import Client
from tests.support.postgres import own_postgres
from tests.support.processes import CoordinatorProcess, Process, QuickAgent, ended, is_ready, wait_until
from tests.support.scripted import campaign_body

pytestmark = pytest.mark.soak

AWAY_S = 9.0
ROUNDS = 6
LOUD = re.compile(r"^\S+ (?:WARNING|ERROR|CRITICAL) +(.*)$", re.MULTILINE)


def answers(url: str, key: str, for_s: float) -> dict[str, set[tuple[int, str | None, str]]]:
    """What a client is told again and again: status, Retry-After and text, by path."""
    seen: dict[str, set[tuple[int, str | None, str]]] = {}
    until = time.monotonic() + for_s
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as http:
        while time.monotonic() < until:
            for path in ("/healthz", "/readyz", "/v1/campaigns"):
                reply = http.get(path)
                body = reply.json()
                told = (reply.status_code, reply.headers.get("Retry-After"), body.get("detail") or body.get("reason"))
                seen.setdefault(path, set()).add(told)
            time.sleep(0.05)
    return seen


def in_background(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Do work in a thread. Returns the thread and the list that gets its result."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


def said_once(log: str) -> list[str]:
    """The lines of an agent without repeated attempts, which are more here than in real use: their pauses are short."""
    return [line for line in log.splitlines() if "trying again in" not in line]


def test_a_campaign_and_those_who_follow_it_outlive_a_crash_of_the_database(tmp_path: Path) -> None:
    with own_postgres() as database:
        coordinator = CoordinatorProcess(tmp_path / "coordinator", database.url)
        agents = [QuickAgent.recorded_one(coordinator, tmp_path, name, step_s=0.4) for name in ("ada", "bob")]
        client = Client(coordinator.url, coordinator.operator.key)
        with ended(coordinator, *agents), client:
            for agent in agents:
                agent.start()
            training = {"steps": 3, "batch_size": 2}
            campaign_id = client.create_campaign(campaign_body(rounds=ROUNDS, training=training)).id
            argv = [sys.executable, "-m", "fedloom", "campaign", "watch", "small"]
            access = {"FEDLOOM_URL": coordinator.url, "FEDLOOM_KEY": coordinator.operator.key}
            watch = Process(argv, tmp_path / "watch.log", **access)
            following, numbers = in_background(lambda: [event.number for event in client.events(campaign_id)])
            waiting, states = in_background(lambda: client.wait(campaign_id).state)
            wait_until(lambda: "round-closed" in coordinator.operator.events(campaign_id), "a round")
            watch.wait_to_print("round-closed")

            n_printed = len(coordinator.process.printed())
            database.stop()
            seen = answers(coordinator.url, coordinator.operator.key, AWAY_S)
            database.start()
            wait_until(lambda: is_ready(coordinator.url), "the database", 30)

            assert client.wait(campaign_id, timeout_s=120).state == "completed"
            waiting.join(30)
            following.join(30)
            assert watch.popen.wait(30) == 0
            n_events = len(coordinator.operator.all_items(f"/v1/campaigns/{campaign_id}/events", limit=1000))
            printed = coordinator.process.printed()[n_printed:]
            assert [agent.process.stop() for agent in agents] == [0, 0]
            logs = [agent.process.printed() for agent in agents]

    away = "the coordinator's database is not available; try again later"
    assert seen["/healthz"] == {(200, None, None)}
    assert seen["/readyz"] == {(503, None, "the database is not available")}
    assert seen["/v1/campaigns"] == {(503, "5", away)}
    assert (states, numbers) == (["completed"], [list(range(1, n_events + 1))])
    assert f"rounds_closed={ROUNDS}" in watch.printed() or "completed" in watch.printed()
    gone, back = LOUD.findall(printed)
    assert re.fullmatch(rf"the database is away: {re.escape(database.url)}: .*", gone)
    assert re.fullmatch(r"the database is back; it was away for \d+ s", back)
    assert "Traceback" not in printed
    assert max(len(said_once(log)) for log in logs) < 50, logs[0]
    assert away in "".join(logs)
    assert "Traceback" not in "".join(logs)
