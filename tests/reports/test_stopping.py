"""Reports of servers and workers that were ended by a closed terminal or a service manager without tidying up."""

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.system.stop_signals import as_interrupts
from tests.support.forks.preloaded import Preloaded
from tests.support.processes import Process, QuickAgent, QuickCoordinator, ended, wait_until
from tests.support.scripted import campaign_body

CLOSED_TERMINAL = pytest.param((signal.SIGHUP, signal.SIGHUP), id="closed terminal")
"""The kernel sends one SIGHUP and the shell another."""
SERVICE_MANAGER = pytest.param((signal.SIGTERM,), id="service manager")
EACH_STOP = pytest.mark.parametrize("signals", [CLOSED_TERMINAL, SERVICE_MANAGER])


def send(process: Process, signals: tuple[int, ...]) -> int:
    """Send signals shortly after one another, and return the exit code."""
    for number in signals:
        if process.popen.poll() is None:
            process.popen.send_signal(number)
        time.sleep(0.02)
    return int(process.popen.wait(20))


def engine_beside(coordinator: QuickCoordinator, *start: str) -> Process:
    argv = [sys.executable, *(start or ("-m", "fedloom"))]
    argv += ["coordinator", "engine", "--data-dir", str(coordinator.data)]
    return Process(argv, coordinator.folder / "engine.log", popen=Preloaded, FEDLOOM_ENGINE__POLL_S="0.05")


def wait_until_looked_at(coordinator: QuickCoordinator) -> None:
    """Wait until an engine has looked at a new campaign, so that it is certainly in its loop."""
    with sqlite3.connect(coordinator.data / "fedloom.db") as database:
        due = "SELECT due_at FROM campaigns"
        coordinator.operator.post("/v1/campaigns", campaign_body())
        first = database.execute(due).fetchone()
        wait_until(lambda: database.execute(due).fetchone() != first, "the engine's look at the campaign", 30)


@EACH_STOP
def test_a_coordinator_stops_cleanly(tmp_path: Path, signals: tuple[int, ...]) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    with (
        ended(coordinator),
        coordinator.operator.http.stream("GET", "/readyz"),
    ):  # a connection that is open, as those of agents
        code = send(coordinator.process, signals)
    assert code == 0
    assert "Traceback" not in coordinator.process.printed()
    assert not (coordinator.data / "fedloom.db-wal").exists(), "the database was closed"


@EACH_STOP
def test_an_engine_of_its_own_stops_cleanly(tmp_path: Path, signals: tuple[int, ...]) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator", serve=["--no-engine"])
    with ended(coordinator):
        engine = engine_beside(coordinator)
        try:
            wait_until_looked_at(coordinator)
            assert send(engine, signals) == 0
        finally:
            engine.kill()
        assert "Traceback" not in engine.printed()


def test_an_agent_whose_terminal_is_closed_gives_its_task_back(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = [QuickAgent.recorded_one(coordinator, tmp_path, name, step_s=0.5) for name in ("ada", "bob")]
    with ended(coordinator, *agents):
        for agent in agents:
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", campaign_body(rounds=1))["id"]
        agents[0].process.wait_to_print("train, round 1")
        agents[0].process.wait_to_print("training 1/")
        assert send(agents[0].process, (signal.SIGHUP, signal.SIGHUP)) == 0
        events = operator.items(f"/v1/campaigns/{campaign_id}/events")
        assert [event["data"]["kind"] for event in events if event["type"] == "task-released"] == ["train"]
        printed = agents[0].process.printed()
        assert "Traceback" not in printed
        assert "stopping; the task was given back" in printed.splitlines()[-2]
        assert printed.rstrip().endswith(" stopped")


def test_a_process_that_is_to_outlive_its_terminal_stays(tmp_path: Path) -> None:
    script = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from fedloom.cli import main; main()"
    coordinator = QuickCoordinator(tmp_path / "coordinator", serve=["--no-engine"])
    with ended(coordinator):
        engine = engine_beside(coordinator, "-c", script)  # as nohup starts it
        try:
            wait_until_looked_at(coordinator)
            engine.popen.send_signal(signal.SIGHUP)
            time.sleep(0.3)
            assert engine.popen.poll() is None
            assert engine.stop() == 0
        finally:
            engine.kill()


@pytest.fixture
def default_hangup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("default_hangup")
def test_a_closed_terminal_is_an_interrupt_once() -> None:
    tidied = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)  # the second one does not cut the end short
            time.sleep(0.01)
            tidied.append("all")

    with pytest.raises(KeyboardInterrupt), as_interrupts():
        work()
    assert tidied == ["all"]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_command_ends_at_sigterm_as_at_ctrl_c(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    with ended(coordinator):
        campaign_id = coordinator.operator.post("/v1/campaigns", campaign_body())["id"]
        argv = [sys.executable, "-m", "fedloom", "campaign", "watch", campaign_id]
        key = coordinator.operator.key
        watch = Process(argv, tmp_path / "watch.log", popen=Preloaded, FEDLOOM_URL=coordinator.url, FEDLOOM_KEY=key)
        watch.wait_to_print("small|created|preparing|waiting")
        assert send(watch, (signal.SIGTERM,)) == 130
        assert "Traceback" not in watch.printed()
