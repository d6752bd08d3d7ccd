"""The README's steps: three owners under the default policy, with one approval each."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agent.main import enroll
from shared.credentials import read_secret
from tests.support.ledgers import sent
from tests.support.processes import Process, QuickCoordinator, ended, wait_until

pytestmark = [pytest.mark.train, pytest.mark.soak]

OWNERS = ("ada", "bob", "cyd")
CAMPAIGN = {
    "name": "tiny-notes",
    "base": {"model": "org/tiny"},
    "training": {"steps": 6, "batch_size": 8, "max_length": 128, "learning_rate": 0.01},
    "data": {"name": "notes"},
    "rounds": 2,
    "evaluation": {"every": 1},
}


class Commands:
    """`fedloom` in an empty folder, against one coordinator."""

    def __init__(self, coordinator: QuickCoordinator, folder: Path) -> None:
        self._folder = folder
        key = read_secret(coordinator.data / "operator.key")
        self._environment = {"FEDLOOM_URL": coordinator.url, "FEDLOOM_KEY": key}

    def run(self, *arguments: object) -> str:
        """Run a command; it must succeed. Returns what it printed."""
        argv = [sys.executable, "-m", "fedloom", *(str(each) for each in arguments)]
        environment = {**os.environ, **self._environment, "COLUMNS": "120"}
        done = subprocess.run(argv, capture_output=True, text=True, cwd=self._folder, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def start_agent(self, home: Path) -> Process:
        argv = [sys.executable, "-m", "fedloom", "agent", "run", "--home", str(home)]
        return Process(argv, home.with_suffix(".log"), cwd=self._folder)


def describe_data(home: Path, model: Path, rows: list[dict[str, str]]) -> None:
    """Do what `$EDITOR agent.toml` stands for: fill two tables of the file that enrolment made."""
    file = home / "agent.toml"
    text = file.read_text().replace("[models]\n", f'[models]\n"org/tiny" = "{model}"\n')
    keys = 'path = "notes.jsonl"\nprompt = "instruction"\ninput = "input"\ncompletion = "output"\nheld_out = 0.3\n'
    file.write_text(f"{text}\n[data.notes]\n{keys}")
    (home / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def answered(home: Path) -> list[str]:
    return [each["kind"] for what in ("result", "failure") for each in sent(home, what)]


@pytest.mark.timeout(300)
def test_owners_approve_once_and_train_together_under_the_default_policy(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model = make_model(tmp_path / "model")
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents: list[Process] = []
    with ended(coordinator):
        fedloom = Commands(coordinator, tmp_path)
        for name in OWNERS:
            enroll(tmp_path / name, coordinator.url, coordinator.operator.token(), name)
            rows = [{**row, "instruction": f"{name}: {row['instruction']}"} for row in ROWS]
            describe_data(tmp_path / name, model, rows)
        assert "refuse nothing of tiny-notes; each owner must first allow the base model org/tiny" in fedloom.run(
            "campaign", "create", "campaign.yaml", "--check"
        )
        fedloom.run("campaign", "create", "campaign.yaml")
        try:
            agents += [fedloom.start_agent(tmp_path / name) for name in OWNERS]
            for agent in agents:
                agent.wait_to_print("campaign tiny-notes .* waits for you", 60)
            for name in OWNERS:
                wait_until(lambda name=name: answered(tmp_path / name), f"the answer of {name}", 30)
                assert answered(tmp_path / name) == ["waiting-for-owner"], "nothing was done yet"
            shown = fedloom.run("campaign", "show", "tiny-notes")
            assert all(re.search(rf"{name}\b.*waiting", shown) for name in OWNERS), shown
            digests = set()
            for name in OWNERS:
                [asked] = json.loads(fedloom.run("agent", "campaigns", "--json", "--home", tmp_path / name))
                digests.add(asked["spec_sha256"])
                said = fedloom.run("agent", "approve", asked["spec_sha256"], "--yes", "--home", tmp_path / name)
                assert said.split()[-1] == asked["spec_sha256"]
            assert len(digests) == 1
            operator = coordinator.operator
            done = wait_until(
                lambda: next(
                    (c for c in operator.items("/v1/campaigns") if c["state"] in ("completed", "paused")), None
                ),
                "the end of the campaign",
                200,
            )
            assert done["state"] == "completed", done["reason"]
            adapters = operator.items(f"/v1/campaigns/{done['id']}/adapters")
            losses = [each["metrics"]["held_out_loss"] for each in adapters]
            assert losses[2] < losses[1] < losses[0]
            for name in OWNERS:
                assert answered(tmp_path / name).count("waiting-for-owner") == 1, "it asked once"
            policy = fedloom.run("agent", "policy", "--home", tmp_path / OWNERS[0])
            assert re.search(r"tiny-notes +2 +998 +96 ", policy), policy  # trainings done and left, rows
        finally:
            for agent in agents:
                agent.kill()
