"""Three owners, each in its own process, and a campaign that they have completed: for tests of an owner's report."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.test_training import CAMPAIGN, SETTINGS, make_agent
from tests.support.processes import ROOT, QuickAgent, QuickCoordinator, ended

OWN_ROWS = SETTINGS.replace("held_out = 0.2", 'held_out_path = "held.jsonl"') + "[network]\nwait_s = 1\n"
NAMES = ("ada", "bob", "cyd")


@dataclass(frozen=True)
class Owners:
    """The owners' agents, their coordinator, and the completed campaign. model: the base model's folder."""

    coordinator: QuickCoordinator
    agents: dict[str, QuickAgent]
    campaign_id: str
    model: Path

    def home(self, name: str) -> Path:
        return self.agents[name].home

    def report(self, name: str, *options: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Type ``fedloom agent report tiny`` at an owner's home, in a process of its own."""
        return typed("agent", "report", "tiny", "--home", self.home(name), *options, **environment)

    def numbers(self, name: str, *options: object, **environment: str) -> dict[str, Any]:
        """The report as JSON."""
        ran = self.report(name, "--json", *options, **environment)
        assert ran.returncode == 0, ran.stderr
        found: dict[str, Any] = json.loads(ran.stdout)
        return found


def typed(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type a command into a terminal of 80 columns."""
    return subprocess.run(
        [sys.executable, "-m", "fedloom", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **environment},
    )


def write_rows(home: Path, number: int) -> None:
    """Write the rows of an owner: 20 to train on, 6 held out."""
    from tests.support.tiny import ROWS

    lines = [json.dumps(row) for row in ROWS[number * 26 : number * 26 + 26]]
    (home / "rows.jsonl").write_text("\n".join(lines[:20]))
    (home / "held.jsonl").write_text("\n".join(lines[20:]))


@contextmanager
def completed(folder: Path, names: tuple[str, ...] = NAMES, **changes: Any) -> Iterator[Owners]:
    """Complete a campaign of three rounds. The agents have stopped; the coordinator runs until the block ends."""
    from tests.support.tiny import make_model

    folder.mkdir(exist_ok=True)
    model = make_model(folder / "model")
    coordinator = QuickCoordinator(folder / "coordinator")
    agents = {}
    for number, name in enumerate(names):
        agents[name] = make_agent(coordinator, folder / name, model, "", OWN_ROWS)
        write_rows(folder / name, number)
    with ended(coordinator):
        with ended(*agents.values()):
            for agent in agents.values():
                agent.start()
            campaign: Mapping[str, Any] = {**CAMPAIGN, "rounds": 3, "selection": {"minimum": len(names)}, **changes}
            campaign_id = str(coordinator.operator.post("/v1/campaigns", campaign)["id"])
            coordinator.operator.wait_for(campaign_id, "completed", timeout_s=400)
            for agent in agents.values():
                agent.process.wait_to_print("fedloom agent pull tiny")
        yield Owners(coordinator, agents, campaign_id, model)
