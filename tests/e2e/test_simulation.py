"""`fedloom simulate` in its own process: real coordinator, real HTTP, real training of a tiny model."""

import json
import re
import shutil
import subprocess
import sys
import time
from csv import DictReader
from pathlib import Path
from typing import Any

import pytest

from shared.digest import sha256_file
from tests.support.forks import preloaded, quick_children
from tests.support.processes import (
    ROOT,
    AgentProcess,
    CoordinatorProcess,
    Process,
    QuickAgent,
    QuickCoordinator,
    ended,
)
from tests.support.suite.tiers import soak

pytestmark = pytest.mark.train

CAMPAIGN: dict[str, Any] = {
    "name": "tiny",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 4},
    "training": {"steps": 4, "batch_size": 4, "max_length": 128, "learning_rate": 0.01, "seed": 3},
    "data": {"name": "rows"},
    "rounds": 3,
    "selection": {"clients_per_round": 2, "minimum": 2},
}
SETTINGS = """
[compute]
threads = 1
[models]
"org/tiny" = "{model}"
[data.rows]
path = "{rows}"
prompt = "instruction"
input = "input"
completion = "output"
held_out = 0.2
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny import make_model

    return make_model(tmp_path_factory.mktemp("model"))


def write_inputs(folder: Path, model: Path) -> Path:
    """Write a campaign file with settings and rows. Returns their folder."""
    from tests.support.tiny import ROWS

    rows = [{**row, "topic": f"topic {i % 3}"} for i, row in enumerate(ROWS)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "agent.toml").write_text(SETTINGS.format(model=model, rows="rows.jsonl"))
    write_campaign(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    return write_inputs(tmp_path, model)


def write_campaign(folder: Path, **changes: Any) -> None:
    (folder / "campaign.json").write_text(json.dumps({**CAMPAIGN, **changes}))


def argv(folder: Path, *options: object) -> list[str]:
    command = [sys.executable, "-m", "fedloom", "simulate", str(folder / "campaign.json")]
    return [*command, "--out", str(folder / "out"), *map(str, options)]


def simulate(folder: Path, *options: object) -> "subprocess.CompletedProcess[str]":
    return preloaded.run(argv(folder, *options), **environment())


def simulate_from_cold(folder: Path, *options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv(folder, *options), cwd=ROOT, capture_output=True, text=True, timeout=400)


def running(folder: Path, log: str) -> Process:
    return Process(argv(folder, *DOMAINS), folder / log, popen=preloaded.Preloaded, **environment())


def environment() -> dict[str, str]:
    """Environment of simulations that start at once and check often whether a round can close.

    It names a proxy that is not there: a simulation reaches its own coordinator directly.
    """
    dead_proxy = "http://127.0.0.1:9"
    proxies = {"HTTP_PROXY": dead_proxy, "ALL_PROXY": dead_proxy}
    return {"FEDLOOM_ENGINE__POLL_S": "0.05", "COLUMNS": "160", **proxies, **quick_children.environment()}


def final_digest(folder: Path) -> str:
    return sha256_file(folder / "out" / "adapter" / "adapter_model.safetensors")


DOMAINS = ("--clients", 3, "--partition", "domain", "--by", "topic")


@pytest.fixture(scope="module")
def once_finished(tmp_path_factory: pytest.TempPathFactory, model: Path) -> "tuple[Path, str]":
    """The folder of a finished simulation, to be read only, and its output."""
    folder = write_inputs(tmp_path_factory.mktemp("finished"), model)
    done = simulate(folder, *DOMAINS)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture
def finished(once_finished: "tuple[Path, str]", tmp_path: Path) -> Path:
    """A copy of the finished simulation for one test."""
    shutil.copytree(once_finished[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.deep
def test_simulated_clients_and_real_agents_end_with_the_same_adapter(
    once_finished: "tuple[Path, str]", tmp_path: Path, model: Path
) -> None:
    folder, printed = once_finished
    assert "round 3/3" in printed
    assert "the owners' limits are open, since these clients have no owners\n" in printed
    assert final_digest(folder) in printed
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = [QuickAgent(tmp_path / f"client-{number:02}") for number in range(3)]
    assert digest_of_agents(coordinator, agents, folder, model) == final_digest(folder)


@pytest.mark.deep
def test_they_do_with_rounded_updates_too(folder: Path, tmp_path: Path, model: Path) -> None:
    rounded = {"wire": "int8", "algorithm": {"name": "scaffold"}}
    write_campaign(folder, **rounded)
    done = simulate(folder, *DOMAINS)
    assert done.returncode == 0, done.stderr
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = [QuickAgent(tmp_path / f"client-{number:02}") for number in range(3)]
    assert digest_of_agents(coordinator, agents, folder, model, **rounded) == final_digest(folder)


@pytest.mark.soak
def test_processes_that_start_cold_end_with_the_same_adapter_too(folder: Path, model: Path) -> None:
    done = simulate_from_cold(folder, *DOMAINS)
    assert done.returncode == 0, done.stderr
    assert "round 3/3" in done.stdout
    assert final_digest(folder) in done.stdout
    coordinator = CoordinatorProcess(folder / "coordinator")
    agents = [AgentProcess(folder / f"client-{number:02}") for number in range(3)]
    assert digest_of_agents(coordinator, agents, folder, model) == final_digest(folder)


def digest_of_agents(
    coordinator: CoordinatorProcess, agents: list[AgentProcess], simulated: Path, model: Path, **changes: Any
) -> str:
    """Digest of the final adapter of real agents that hold the rows of simulated clients of the same names.

    changes: of the campaign.
    """
    with ended(coordinator, *agents):
        for agent in agents:
            rows = simulated / "out" / "clients" / agent.home.name / "rows.jsonl"
            agent.enroll(coordinator, SETTINGS.format(model=model, rows=rows))
            agent.start()
        campaign_id = coordinator.operator.post("/v1/campaigns", CAMPAIGN | changes)["id"]
        coordinator.operator.wait_for(campaign_id, "completed", timeout_s=400)
        adapters = coordinator.operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    return str(adapters[-1]["blob"]["sha256"])


@pytest.mark.deep
@pytest.mark.fault
def test_it_resumes_after_a_stop_and_after_a_kill(folder: Path) -> None:
    write_campaign(folder, rounds=6)
    stopped = running(folder, "first.log")
    stopped.wait_to_print("round [23]/6")
    assert stopped.stop() == 130
    assert stopped.printed().endswith("stopping…\nstopped; run the same command again to continue\n")
    killed = running(folder, "second.log")
    killed.wait_to_print("round [45]/6")
    killed.kill()
    again = simulate(folder, *DOMAINS)
    assert again.returncode == 0, again.stderr
    assert "round 1/6" not in killed.printed() + again.stdout
    assert "round 3/6" not in again.stdout
    digest = final_digest(folder)

    unbroken = simulate(folder, *DOMAINS, "--force", "--json")
    assert unbroken.returncode == 0
    assert final_digest(folder) == digest, "the unbroken run ends with the same adapter"
    assert json.loads(unbroken.stdout)["adapter"]["blob"]["sha256"] == digest


def test_each_round_is_one_line_with_the_losses_of_that_round(once_finished: "tuple[Path, str]") -> None:
    folder, printed = once_finished
    with (folder / "out" / "metrics.csv").open() as file:
        means = {(row["name"], int(row["round"])): float(row["value"]) for row in DictReader(file) if not row["client"]}
    lines = [line for line in printed.splitlines() if line.startswith("round ")]
    for number, line in enumerate(lines):
        train = f"train loss {means['train_loss_mean', number]:.4f} nats a token, " if number else ""
        assert line == f"round {number}/3: {train}held-out loss {means['held_out_loss', number]:.4f} nats a token"
    assert len(lines) == 4
    assert re.search(r"^client-00 +[0-9.]+% +[0-9.]+ +[0-9.]+ +[0-9.]+ +[-+][0-9.]+", printed, re.MULTILINE)


@pytest.mark.deep
def test_a_campaign_without_evaluation_prints_its_rounds_too(folder: Path) -> None:
    write_campaign(folder, rounds=2, evaluation={"every": 0})
    done = simulate(folder, *DOMAINS)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("round ")]
    assert [line.partition(":")[0] for line in lines] == ["round 0/2", "round 1/2", "round 2/2"]
    assert lines[0] == "round 0/2"
    assert "held-out" not in done.stdout.lower()


def test_a_finished_simulation_is_shown_again_at_once_and_another_one_is_refused(finished: Path) -> None:
    folder = finished
    adapter = json.loads(simulate(folder, *DOMAINS, "--json").stdout)["adapter"]
    assert adapter["blob"]["sha256"] == final_digest(folder)
    metrics = (folder / "out" / "metrics.csv").read_text().splitlines()
    assert metrics[0] == "round,client,name,value,unit,n_clients,of_clients,at"
    assert any(line.startswith("3,,held_out_loss,") and ",nats a token,3,3,20" in line for line in metrics)

    started = time.monotonic()
    assert json.loads(simulate(folder, *DOMAINS, "--json").stdout)["adapter"] == adapter
    assert time.monotonic() - started < 60, "nothing was trained again"

    other = simulate(folder, "--clients", 4)
    assert other.returncode == 2
    assert "which differs in: clients, partition" in other.stderr
    assert "--force" in other.stderr
    own = folder / "own.jinja"
    own.write_text("{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}")
    settings = (folder / "agent.toml").read_text()
    (folder / "agent.toml").write_text(settings.replace("[data.rows]", '[data.rows]\ntemplate = "own.jinja"'))
    assert "differs in: template" in simulate(folder, *DOMAINS).stderr
    assert final_digest(folder) == adapter["blob"]["sha256"]


def test_an_unrelated_folder_is_left_alone(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("years of work")
    for options in ((), ("--force",)):
        refused = simulate(folder, *DOMAINS, *options)
        assert refused.returncode == 2
        assert "not a simulation" in refused.stderr
    assert (folder / "out" / "thesis.txt").read_text() == "years of work"


@pytest.mark.deep
def test_two_processes_do_not_run_one_simulation(folder: Path) -> None:
    write_campaign(folder, rounds=50)
    first = running(folder, "first.log")
    try:
        first.wait_to_print("round [1-9]")
        second = simulate(folder, *DOMAINS)
        assert second.returncode == 2
        assert "another process" in second.stderr
    finally:
        assert first.stop() == 130


@pytest.mark.parametrize("n_clients", [soak(8), soak(40)])
def test_many_clients_share_one_child_and_one_cache(folder: Path, n_clients: int) -> None:
    write_campaign(folder, rounds=2, evaluation={"every": 2})
    done = simulate(folder, "--clients", n_clients, "--partition", "dirichlet", "--by", "topic")
    assert done.returncode == 0, done.stderr
    clients = folder / "out" / "clients"
    logs = [log for home in clients.glob("client-*") for log in (home / "logs").iterdir()]
    assert sum(log.read_text().count("base model loaded") for log in logs) == 1
    assert sorted(path.name for path in clients.iterdir()) == ["cache", *(f"client-{i:02}" for i in range(n_clients))]
    assert not any((home / "cache").exists() for home in clients.glob("client-*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--clients", 1), "selection.minimum"),
        (("--clients", 3, "--partition", "key"), "--by"),
        (("--clients", 3, "--partition", "domain", "--by", "subject"), "no column 'subject'"),
        (("--clients", 300), "80 rows are not enough"),
        (("--clients", 3, "--settings", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_anything_is_created(
    folder: Path, options: tuple[object, ...], message: str
) -> None:
    refused = simulate(folder, *options)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (folder / "out" / "simulation.json").exists()


@pytest.mark.deep
def test_unreadable_data_and_a_campaign_that_cannot_start_are_explained(folder: Path) -> None:
    settings = (folder / "agent.toml").read_text()
    (folder / "agent.toml").write_text(settings.replace("rows.jsonl", "nowhere.jsonl"))
    refused = simulate(folder, *DOMAINS)
    assert refused.returncode == 1
    assert "no such file" in refused.stderr

    (folder / "agent.toml").write_text(settings.replace('org/tiny" = "', 'org/tiny" = "/nowhere'))
    paused = simulate(folder, *DOMAINS)
    assert paused.returncode == 1
    assert "[models]" in paused.stderr

    (folder / "agent.toml").write_text(settings)
    assert simulate(folder, *DOMAINS).returncode == 0, "after the repair, the same command succeeds"


def test_show_partition_runs_nothing(folder: Path) -> None:
    shown = simulate(folder, *DOMAINS, "--show-partition")
    assert shown.returncode == 0
    assert [line.split()[:2] for line in shown.stdout.splitlines() if line.startswith("client-")] == [
        ["client-00", "27"],
        ["client-01", "27"],
        ["client-02", "26"],
    ]
    as_json = json.loads(simulate(folder, *DOMAINS, "--show-partition", "--json").stdout)
    assert as_json["client-00"] == {"rows": 27, "values": {"topic 0": 27}}
    assert not (folder / "out").exists()


@pytest.mark.deep
def test_files_that_are_not_read_are_named(folder: Path) -> None:
    (folder / "rows").mkdir()
    (folder / "rows.jsonl").rename(folder / "rows" / "rows.jsonl")
    (folder / "rows" / "README.md").write_text("rows")
    settings = (folder / "agent.toml").read_text()
    (folder / "agent.toml").write_text(settings.replace("rows.jsonl", "rows"))
    shown = simulate(folder, *DOMAINS, "--show-partition")
    assert "rows: 1 file of the folder is not read: 'README.md'" in shown.stdout
    as_json = simulate(folder, *DOMAINS, "--show-partition", "--json")
    assert "'README.md'" in as_json.stderr
    assert len(json.loads(as_json.stdout)) == 3
    assert "'README.md'" in simulate(folder, *DOMAINS).stdout
