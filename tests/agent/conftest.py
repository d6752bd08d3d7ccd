"""Fixtures of the agent's tests: short pauses between tries, and an enrolled agent with its own home folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.main import enroll
from agent.network import heartbeat as lease
from agent.network import retry
from agent.running import loop
from tests.agent.parts import Home
from tests.support.operator import Operator
from tests.support.server import RunningCoordinator


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BASE_S", 0.005)
    monkeypatch.setattr(lease, "_REPORT_EVERY_S", 0.05)
    monkeypatch.setattr(lease, "_LEAST_RENEWAL_S", 0.0)
    monkeypatch.setattr(loop, "_BUSY_PAUSE_S", 0.1)
    monkeypatch.setattr(loop, "_IDLE_PAUSE_S", 0.05)
    monkeypatch.setattr(loop, "_FULL_DISK_PAUSE_S", 0.3)


@pytest.fixture
def new_home(coordinator: RunningCoordinator, operator: Operator, tmp_path: Path) -> Callable[[str], Home]:
    """Enrols agents, each with a recorded child and ten rows."""

    def make(name: str) -> Home:
        folder = tmp_path / name
        enroll(folder, coordinator.url, operator.token(), name)
        (folder / "notes.jsonl").write_text("{}\n" * 10)
        home = Home(folder)
        home.write_settings()
        return home

    return make
