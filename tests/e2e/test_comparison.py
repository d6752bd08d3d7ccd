"""`fedloom compare` in its own process, on a tiny model: stopped, resumed, extended, refused."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shared.digest import sha256_file
from tests.support.forks import preloaded, quick_children
from tests.support.processes import Process

pytestmark = pytest.mark.train

CAMPAIGN: dict[str, Any] = {
    "name": "tiny",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 2},
    "training": {"steps": 2, "batch_size": 2, "max_length": 96, "learning_rate": 0.01, "seed": 3},
    "data": {"name": "rows"},
    "rounds": 2,
    "selection": {"clients_per_round": 2, "minimum": 2},
    "evaluation": {"every": 0},
}
COMPARISON: dict[str, Any] = {
    "name": "tiny",
    "campaign": "campaign.json",
    "clients": 3,
    "partition": {"kind": "domain", "by": "topic"},
    "validation": "validation.jsonl",
    "test": "test.jsonl",
    "grid": {"params": {"mu": [0.1, 100.0]}},
}
SETTINGS = """
[compute]
threads = 1
device = "cpu"
[models]
"org/tiny" = "{model}"
[data.rows]
path = "rows.jsonl"
prompt = "instruction"
input = "input"
completion = "output"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny import make_model

    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    """A folder with a comparison file, its campaign, settings and rows."""
    from tests.support.tiny import ROWS

    rows = [{**row, "topic": f"topic {i % 3}"} for i, row in enumerate(ROWS)]
    for name, some in (("rows", rows[20:]), ("validation", rows[:10]), ("test", rows[10:20])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    (tmp_path / "agent.toml").write_text(SETTINGS.format(model=model))
    (tmp_path / "campaign.json").write_text(json.dumps(CAMPAIGN))
    write_comparison(tmp_path)
    return tmp_path


def write_comparison(folder: Path, **changes: Any) -> None:
    (folder / "comparison.json").write_text(json.dumps({**COMPARISON, **changes}))


def argv(folder: Path, *options: object) -> list[str]:
    command = [sys.executable, "-m", "fedloom", "compare", str(folder / "comparison.json"), "--threads", "2"]
    return [*command, "--out", str(folder / "out"), *map(str, options)]


def compare(folder: Path, *options: object) -> "subprocess.CompletedProcess[str]":
    return preloaded.run(argv(folder, *options), **environment())


def environment() -> dict[str, str]:
    """Environment of comparisons that start at once and check often whether a round can close."""
    return {"FEDLOOM_ENGINE__POLL_S": "0.05", **quick_children.environment()}


@pytest.mark.soak
@pytest.mark.fault
def test_a_comparison_resumes_after_a_kill_and_grows(folder: Path) -> None:
    some = ("--algorithms", "fedprox", "--seeds", 1, "--baselines", "none", "--threads", 1)
    stopped = Process(argv(folder, *some), folder / "first.log", popen=preloaded.Preloaded, **environment())
    stopped.wait_to_print("2/3")  # the base model, and one of two learning rates
    stopped.popen.send_signal(signal.SIGKILL)
    stopped.popen.wait(20)
    runs = folder / "out" / "runs"
    by_path = {path: json.loads(path.read_text())["scores"] for path in runs.rglob("scores.json")}
    scored = {
        path: scores["validation"] for path, scores in by_path.items() if scores and "base" not in path.parent.name
    }
    weights = {path: sha256_file(path) for path in runs.rglob("adapter_model.safetensors")}
    assert len(scored) == 1
    started = time.time()

    done = compare(folder, "--algorithms", "fedprox,fedavg", "--seeds", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert "the owners' limits are open, since these clients have no owners\n" in done.stderr
    for path, scores in scored.items():
        assert json.loads(path.read_text())["scores"]["validation"] == scores
    for path, digest in weights.items():
        assert sha256_file(path) == digest
        assert path.stat().st_mtime < started, "nothing is trained twice"
    results = json.loads(done.stdout)
    losses = {row["name"]: row["scores"]["loss"][0] for row in results["rows"]}
    alone = [f"client-0{number} alone" for number in range(3)]
    pooled = ["pooled, batch ×2", "pooled, steps ×2"]
    assert list(losses) == ["base model", "fedprox", "fedavg", *alone, "mean of clients alone", *pooled]
    assert losses["fedavg"] < losses["base model"]
    assert losses["mean of clients alone"] == pytest.approx(sum(losses[name] for name in alone) / 3)
    assert results["failures"] == []
    assert "of 2 algorithms beat the best client alone" in results["finding"]

    rows = list(csv.DictReader((folder / "out" / "results.csv").open(encoding="utf-8")))
    assert {row["method"]: float(row["value"]) for row in rows if row["split"] == "test"}["fedavg"] == losses["fedavg"]
    [chosen] = [row for row in rows if (row["method"], row["split"]) == ("fedprox", "test")]
    tried = [row for row in rows if (row["method"], row["split"]) == ("fedprox", "validation")]
    assert {row["params"] for row in tried} == {"mu=0.1", "mu=100"}
    assert chosen["params"] == min(tried, key=lambda row: float(row["value"]))["params"]
    assert (folder / "out" / "plot.png").stat().st_size > 1000
    for log in runs.rglob("simulation.log"):  # two run at a time, and each logs only its own run
        own = log.parent.name.partition("-lr")[0]
        lines = [line for line in log.read_text().splitlines() if "of campaign" in line]
        assert lines
        assert all(f"of campaign {own}" in line for line in lines)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("measure", "while_it"), [("exact", "scoring the base model: 0/1"), ("loss", "choosing .* 0/")]
)
def test_ctrl_c_is_answered_at_once_and_ends_what_is_scored_and_trained(
    folder: Path, measure: str, while_it: str
) -> None:
    rows = [{"instruction": f"what is {number}?", "output": f"{number} " * 20} for number in range(2000)]
    for name in ("validation", "test") if measure == "exact" else ():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "campaign.json").write_text(json.dumps({**CAMPAIGN, "training": {**CAMPAIGN["training"], "steps": 5000}}))
    write_comparison(folder, score={"measure": measure, "max_new_tokens": 300}, grid={"params": {}})
    some = ("--algorithms", "fedavg", "--seeds", 1)
    stopped = Process(argv(folder, *some), folder / "first.log", popen=preloaded.Preloaded, **environment())
    stopped.wait_to_print(while_it)
    time.sleep(2)
    stopped.popen.send_signal(signal.SIGINT)
    asked = time.monotonic()
    stopped.wait_to_print("stopping…", timeout_s=2)
    assert stopped.popen.wait(20) == 130
    assert time.monotonic() - asked < 10  # a second or two; a shared machine may be slow
    assert stopped.printed().endswith("stopping…\nstopped; run the same command again to continue\n")


@pytest.mark.deep
def test_a_diverging_method_is_a_failed_row_and_the_rest_runs(folder: Path) -> None:
    write_comparison(folder, grid={"learning_rate": [1e30], "params": {}})
    done = compare(folder, "--algorithms", "fedavg", "--seeds", 1, "--baselines", "none")
    assert done.returncode == 0, done.stderr
    assert "failed" in done.stdout
    assert "the learning rate" in done.stdout


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({}, ("--algorithms", "fedavgg"), "unknown algorithm fedavgg; choose from"),
        ({"grid": {"params": {"etta": [1.0]}}}, (), "none of the compared algorithms has the parameter etta"),
        ({"grid": {"params": {"mu": [1.0], "beta1": [2.0]}}}, (), "line 1: grid.params.beta1.0: params.beta1: Input"),
        ({"validation": "nowhere.jsonl"}, (), "nowhere.jsonl: there is no such file"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    folder: Path, changes: dict[str, Any], options: tuple[str, ...], says: str
) -> None:
    write_comparison(folder, **changes)
    refused = compare(folder, *options)
    assert refused.returncode in (1, 2)
    assert "Traceback" not in refused.stderr
    assert says in refused.stderr
    assert not (folder / "out" / "runs").exists()


@pytest.mark.parametrize(
    ("measure", "rows", "says"),
    [
        (
            "choice",
            [("one", "yes"), ("two", "yes")],
            "validation.jsonl: all rows have the same completion, so there is nothing",
        ),
        (
            "choice",
            [("one", "yes"), ("two", "no")],
            "validation.jsonl: none of the 2 completions to choose from is in the training data",
        ),
        (
            "exact",
            [("one", "yes"), ("two", "yes")],
            "validation.jsonl: all rows have the same completion, so an answer that",
        ),
        ("exact", [("one", "the river turns slowly"), ("two", "8")], None),
        (
            "exact",
            [("one", "the river turns slowly"), ("two", "the bread")],
            "score.max_new_tokens: no answer can be exact",
        ),
        ("loss", [("one", "yes"), ("two " * 600, "no")], "longer than the base model's 512 positions"),
    ],
)
def test_rows_that_tell_no_methods_apart_are_refused_before_anything_is_trained(
    folder: Path, measure: str, rows: list[tuple[str, str]], says: str | None
) -> None:
    for name in ("validation", "test"):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"instruction": q, "output": a}) for q, a in rows))
    write_comparison(folder, score={"measure": measure, "max_new_tokens": 1}, grid={"params": {}})
    compared = compare(folder, "--algorithms", "fedavg", "--seeds", 1, "--baselines", "none")
    if says is None:
        assert compared.returncode == 0, compared.stderr
        return
    assert compared.returncode in (1, 2)
    assert "Traceback" not in compared.stderr
    assert says in compared.stderr
    assert not list((folder / "out").rglob("adapter_model.safetensors"))


@pytest.mark.deep
def test_methods_that_score_the_same_have_no_best_among_them(folder: Path) -> None:
    write_comparison(folder, score={"measure": "exact", "max_new_tokens": 40}, grid={"params": {"mu": [1e-9]}})
    options = ("--algorithms", "fedavg,fedprox", "--seeds", 1, "--baselines", "none")
    compared = compare(folder, *options)
    assert compared.returncode == 0, compared.stderr
    assert "★" not in compared.stdout
    assert "no best algorithm: every method has 0.0, so the test rows do not tell them apart" in compared.stdout


def test_another_comparisons_folder_is_left_alone(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("years of work")
    refused = compare(folder, "--force")
    assert refused.returncode == 2
    assert "not a comparison" in refused.stderr
    (folder / "out" / "thesis.txt").unlink()
    (folder / "out" / "comparison.json").write_text('{"clients": 7}')
    refused = compare(folder)
    assert refused.returncode == 2
    assert "holds another comparison" in refused.stderr
    assert "--force" in refused.stderr
