"""Fixtures that run the ``fedloom`` command in this process, and a campaign for it."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedloom.cli import main
from tests.support.messages import evaluated
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body, initial_bytes
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator


@dataclass(frozen=True)
class Ran:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command line without a coordinator in its environment."""
    for name in ("FEDLOOM_URL", "FEDLOOM_KEY", "FEDLOOM_KEY_FILE", "FEDLOOM_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("fedloom.transport.BACKOFF_S", 0.01)

    def command(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["fedloom", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ran(code, printed.out, printed.err)

    umask = os.umask(0o022)
    os.umask(umask)
    yield command
    os.umask(umask)  # commands that write private files change it, for the whole process


@pytest.fixture
def fedloom(run: Run, coordinator: RunningCoordinator, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line against the test's coordinator, as its operator."""
    monkeypatch.setenv("FEDLOOM_URL", coordinator.url)
    monkeypatch.setenv("FEDLOOM_KEY", coordinator.key)
    monkeypatch.setattr("fedloom.cli.campaign.watch.POLL_S", 0.05)
    return run


@pytest.fixture
def campaign_file(tmp_path: Path) -> Path:
    """A campaign file of one round for two scripted agents."""
    import yaml

    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(campaign_body(evaluation={"every": 1}, lora={"rank": 2, "alpha": 4})))
    return path


class Campaign:
    """A campaign of one round with two scripted agents, ada and bob."""

    def __init__(self, operator: Operator, agents: list[ScriptedAgent], folder: Path, **changes: Any) -> None:
        self.operator, self.agents, self.folder = operator, agents, folder
        body = campaign_body(evaluation={"every": 1}, lora={"rank": 2, "alpha": 4}, **changes)
        self.id = str(operator.post("/v1/campaigns", body)["id"])

    def prepare(self) -> None:
        for agent, n_train in zip(self.agents, (30, 10), strict=True):
            agent.prepare(n_train=n_train, n_held_out=5)
        self.agents[0].init(initial_bytes(self.folder, 1.0))

    def evaluate(self, loss: float) -> None:
        for agent in self.agents:
            body = evaluated(loss, n_rows=5, n_tokens=100)
            assert agent.result(agent.lease("evaluate"), body).status_code == 200

    def train(self) -> None:
        for agent, fill in zip(self.agents, (4.0, 8.0), strict=True):
            agent.train(adapter_bytes(self.folder, fill=fill))

    def complete(self) -> None:
        self.prepare()
        self.evaluate(2.0)
        self.train()
        self.evaluate(1.5)
        self.operator.wait_for(self.id, "completed")


@pytest.fixture
def agents(enroll: Callable[..., ScriptedAgent]) -> list[ScriptedAgent]:
    return [enroll("ada", site="north"), enroll("bob")]


@pytest.fixture
def campaign(operator: Operator, agents: list[ScriptedAgent], tmp_path: Path) -> Campaign:
    """A campaign that was just created."""
    return Campaign(operator, agents, tmp_path)


@pytest.fixture(scope="module")
def _finished(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningCoordinator, Campaign]]:
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(sqlite_template, folder / "fedloom.db")
    with running_coordinator(quick_settings(folder, None)) as running, ExitStack() as stack:
        operator, agents = Operator(running.url, running.key), []
        for name, labels in (("ada", {"site": "north"}), ("bob", {})):
            agents.append(ScriptedAgent(running.url, operator.token(labels=labels), name))
            stack.callback(agents[-1].http.close)
        campaign = Campaign(operator, agents, folder)
        campaign.complete()
        yield running, campaign


@pytest.fixture
def finished(_finished: tuple[RunningCoordinator, Campaign], run: Run, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A completed campaign, for tests that only read it. ``run`` runs command lines as its operator."""
    running, campaign = _finished
    monkeypatch.setenv("FEDLOOM_URL", running.url)
    monkeypatch.setenv("FEDLOOM_KEY", running.key)
    monkeypatch.setattr("fedloom.cli.campaign.watch.POLL_S", 0.05)
    return campaign


@pytest.fixture
def completed(campaign: Campaign) -> Campaign:
    """A completed campaign of the test's own."""
    campaign.complete()
    return campaign
