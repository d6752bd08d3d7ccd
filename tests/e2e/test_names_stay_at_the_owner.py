"""Failures of real agents: the coordinator stores no path, no name of a file and no name of a person; owners see all.

Each owner's home lies in a folder with a telling name, and so do the files in it.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.configuration.open_policy import with_open_policy
from tests.support.ledgers import ledger_text
from tests.support.processes import AgentProcess, QuickAgent, QuickCoordinator, ended

pytestmark = pytest.mark.train

PERSON, FOLDER, FILE = "Mueller", "oncology-7", "hiv-patients-Mueller.jsonl"
CAMPAIGN = {
    "name": "tiny",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 4},
    "training": {"steps": 2, "batch_size": 4, "max_length": 128},
    "data": {"name": "notes"},
    "rounds": 1,
}
DATA = f'[data.notes]\npath = "{FILE}"\nprompt = "instruction"\ninput = "input"\ncompletion = "output"\n'
ABORTING_CHILD = [sys.executable, "-c", "import os, sys; sys.stdin.readline(); os.abort()"]


@dataclass
class Owner:
    """An owner with something wrong. told: what the operator reads. shown: what the owner reads besides."""

    told: str
    shown: str
    spoil: Callable[[Path, Path], str] = lambda _home, _model: ""
    child: list[str] | None = None


def bad_row(home: Path, _model: Path) -> str:
    with (home / FILE).open("a") as file:
        file.write('{"instruction": \n')
    return ""


def no_file(home: Path, _model: Path) -> str:
    (home / FILE).unlink()
    return ""


def table_in_a_folder(home: Path, _model: Path) -> str:
    (home / FILE).unlink()
    folder = home / FILE
    folder.mkdir()
    (folder / "a-Mueller.csv").write_text("instruction,input,output\nq,,a\n")
    (folder / "b-Mueller.csv").write_text("instruction,input,output\nq,,a,b\n")
    return ""


def damaged_parquet(home: Path, _model: Path) -> str:
    (home / "scans-Mueller.parquet").write_bytes(b"PAR1 and nothing else")
    return DATA.replace(FILE, "scans-Mueller.parquet")


def broken_template(home: Path, _model: Path) -> str:
    (home / "own-Mueller.jinja").write_text("{% for m in messages %}")
    return f'{DATA}template = "own-Mueller.jinja"\n'


def no_template(home: Path, _model: Path) -> str:
    return f'{DATA}template = "own-Mueller.jinja"\n'


def broken_table(home: Path, _model: Path) -> str:
    return f'{DATA}encoding = "Mueller-8"\n'


def changed_model(edit: Callable[[Path], object]) -> Callable[[Path, Path], str]:
    """An owner whose copy of the model is edited."""

    def spoil(home: Path, model: Path) -> str:
        own = Path(shutil.copytree(model, home / "model-Mueller"))
        edit(own)
        return f'{DATA}[policy]\nremote_code = true\n[models]\n"org/tiny" = "{own}"\n'

    return spoil


def with_code_that_is_gone(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_gone.Gone"}
    (model / "config.json").write_text(json.dumps(config))


def with_a_link_outside(model: Path) -> None:
    (model / "vocab.txt").symlink_to(model.parent / FILE)


OWNERS = {
    "abort": Owner("the training process ended by signal 6; see the agent's log", "/logs/", child=ABORTING_CHILD),
    "row": Owner("data.notes: line 11 is not JSON", f"{FILE}: line 11 is not JSON", bad_row),
    "gone": Owner("data.notes: the file cannot be read (No such file or directory)", FILE, no_file),
    "folder": Owner("data.notes: file 2: line 2 has 4 cells, but the header has 3", "b-Mueller.csv", table_in_a_folder),
    "parquet": Owner("data.notes: the file is damaged or not Parquet", "scans-Mueller.parquet", damaged_parquet),
    "broken": Owner("the owner's template has an error in line 1", "own-Mueller.jinja has an error", broken_template),
    "none": Owner("the owner's template cannot be read", "own-Mueller.jinja cannot be read", no_template),
    "table": Owner("data.notes: its table in agent.toml cannot be used (line 6)", "'Mueller-8'", broken_table),
    "code": Owner(
        "the base model cannot be loaded (OSError)", "modeling_gone.py", changed_model(with_code_that_is_gone)
    ),
    "link": Owner("is not that of a plain file in this folder", "plain file", changed_model(with_a_link_outside)),
    "absent": Owner(
        "the folder of org/tiny does not exist", "does not exist", changed_model(lambda model: shutil.rmtree(model))
    ),
}


def make_agent(coordinator: QuickCoordinator, folder: Path, name: str, owner: Owner, model: Path) -> AgentProcess:
    from tests.support.tiny import ROWS

    home = folder / name
    agent = QuickAgent(home, owner.child)
    agent.enroll(coordinator, "")
    (home / FILE).write_text("".join(f"{json.dumps(row)}\n" for row in ROWS[:10]))
    data = owner.spoil(home, model) or DATA
    models = "" if "[models]" in data else f'[models]\n"org/tiny" = "{model}"\n'
    (home / "agent.toml").write_text(with_open_policy(f"{data}[compute]\nthreads = 1\n{models}"))
    return agent


def stored(coordinator: QuickCoordinator) -> bytes:
    """All that the coordinator has on its disk, its log too."""
    return b"".join(path.read_bytes() for path in coordinator.folder.rglob("*") if path.is_file())


def test_what_fails_at_owners_is_told_without_names_and_shown_to_them_with_names(tmp_path: Path) -> None:
    from tests.support.tiny import make_model

    folder = tmp_path / f"home-of-{PERSON}" / FOLDER
    folder.mkdir(parents=True)
    model = make_model(folder / "base")
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = {name: make_agent(coordinator, folder, name, owner, model) for name, owner in OWNERS.items()}
    with ended(coordinator, *agents.values()):
        for agent in agents.values():
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        campaign = operator.wait_for(campaign_id, "paused", "failed", "completed", timeout_s=400)
        told: dict[str, Any] = {each["agent_name"]: each["reason"] for each in campaign["participants"]}
        events = json.dumps(operator.items(f"/v1/campaigns/{campaign_id}/events", limit=500))
        kept = stored(coordinator)
    for name, owner in OWNERS.items():
        assert owner.told in told[name], name
        assert owner.shown in agents[name].process.printed(), name
        assert owner.told in ledger_text(agents[name].home)
    for private in (PERSON, FOLDER, str(tmp_path)):
        assert private not in json.dumps(told)
        assert private not in events
        assert private.encode() not in kept.replace(str(coordinator.folder).encode(), b"")


@pytest.mark.deep
def test_a_cache_that_cannot_be_made_is_told_without_its_path(tmp_path: Path) -> None:
    folder = tmp_path / f"home-of-{PERSON}"
    folder.mkdir()
    (folder / "cache").write_text("a file where the hub's client wants a folder")
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agent = AgentProcess(folder / "hub")
    agent.enroll(coordinator, DATA)
    (agent.home / FILE).write_text('{"instruction": "q", "output": "a"}\n')
    agent.environment = {"HF_HOME": str(folder / "cache" / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    agent.environment |= {"HF_HUB_OFFLINE": "0"}
    with ended(coordinator, agent):
        agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", {**CAMPAIGN, "selection": {"minimum": 1}})["id"]
        campaign = operator.wait_for(campaign_id, "paused", "failed", timeout_s=120)
        kept = stored(coordinator)
    reason = campaign["participants"][0]["reason"]
    assert reason.startswith("org/tiny could not be downloaded from the hub: check the network, or map org/tiny")
    assert PERSON.encode() not in kept
    assert str(folder / "cache") in agent.process.printed()
