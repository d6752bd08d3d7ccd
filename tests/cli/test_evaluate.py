"""``fedloom evaluate``: what it lists, refuses and prints; and a run over the tiny model in a child of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared.digest import sha256_file
from tests.cli.conftest import Run
from tests.support.processes import ROOT
from tests.support.published.chat import write_benches
from tests.support.published.files import write, write_jsonl
from tests.support.published.harness import crass, mmlu

JUDGE = ("--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m")
ROWS = [{"prompt": f"Say {word}.", "completion": word} for word in ("one", "two", "three", "four", "five", "six")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "rows").mkdir(parents=True)
    (folder / "rows" / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return folder


def test_tasks_are_listed_with_what_is_here(run: Run, data: Path) -> None:
    ran = run("evaluate", "--list", "--tasks", "rows,fpb", "--data", data)
    assert ran.code == 0
    tasks, _, of_data = ran.out.partition("\n\n")
    assert [line.split()[0] for line in tasks.splitlines()[:3]] == ["TASK", "rows", "fpb"]
    assert tasks.splitlines()[1].split() == ["rows", "exact,", "rouge_l", "6", "rows/test.jsonl"]
    digest = sha256_file(data / "rows/test.jsonl")
    assert [" ".join(line.split()) for line in of_data.splitlines()[:5]] == [
        "DATA STATE SHA-256 LICENCE",
        f"rows/test.jsonl here {digest[:12]} unknown your own",
        "rows of your own, with prompt and completion",
        "fpb/Sentences_50Agree.txt missing 13388b8bf2f8 published CC BY-NC-SA 3.0, research use only",
        "Sentences_50Agree.txt of FinancialPhraseBank-v1.0.zip, of the data set",
    ]
    assert "fpb: put fpb/Sentences_50Agree.txt" in ran.err


def test_the_whole_list_names_the_suites(run: Run, tmp_path: Path) -> None:
    suites = "suites of tasks, for --suite: chat, code, finance, general, math, medical, paper, safety"
    assert suites in run("evaluate", "--list", "--data", tmp_path).out.splitlines()
    assert "suites of tasks" not in run("evaluate", "--list", "--suite", "chat", "--data", tmp_path).out


def test_files_of_one_folder_are_one_line(run: Run, tmp_path: Path) -> None:
    mmlu(tmp_path)
    (tmp_path / "mmlu/test/virology_test.csv").unlink()
    ran = run("evaluate", "--list", "--tasks", "mmlu,mmlu_other,nwgi", "--data", tmp_path)
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "mmlu/test/*.csv 56 of 57 here 56 unknown, 1 missing MIT" in lines
    assert "mmlu/dev/*.csv 57 of 57 here 57 other MIT" in lines
    assert len(lines) < 20
    assert "mmlu: put mmlu/test/virology_test.csv into" in ran.err


def test_the_json_has_each_file_with_its_whole_digest(run: Run, data: Path) -> None:
    write_jsonl(data / "nwgi/test.jsonl", [{"news": "n", "label": "neutral"}])
    write(data / "crass/CRASS_FTM_main_data_set.csv/x", "")
    document = json.loads(run("evaluate", "--list", "--suite", "paper", "--data", data, "--json").out)
    assert len(document["tasks"]) == 20
    files = {file["path"]: file for task in document["tasks"] for file in task["files"]}
    assert all(file["where"] and file["licence"] for file in files.values())
    nwgi = files["nwgi/test.parquet"]
    assert (nwgi["state"], nwgi["found_at"], nwgi["edition"]) == ("here", "nwgi/test.jsonl", "unknown")
    assert nwgi["sha256"] == sha256_file(data / "nwgi/test.jsonl")
    assert files["mmlu/dev/virology_dev.csv"]["state"] == "missing"
    assert len(files["mmlu/dev/virology_dev.csv"]["published_sha256"][0]) == 64
    assert files["crass/CRASS_FTM_main_data_set.csv"]["state"] == "unusable"
    (crass,) = (task for task in document["tasks"] if task["task"] == "crass")
    assert crass["problem"] == "crass/CRASS_FTM_main_data_set.csv is a folder, and not a file"


def test_a_file_that_stands_in_for_another_is_not_needed(run: Run, tmp_path: Path) -> None:
    crass(tmp_path)
    ran = run("evaluate", "--list", "--tasks", "crass", "--data", tmp_path)
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "or crass/crass_ai_task.json not needed unknown Apache-2.0" in lines
    assert ran.err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--tasks", "rows"), 2, "name an adapter's folder, or a base model with --base"),
        (("--tasks", "rows", "--suite", "paper", "--base", "x"), 2, "give --suite or --tasks, and not both"),
        (("--tasks", "nonsense", "--base", "x"), 2, "there is no task nonsense: `fedloom evaluate --list"),
        (("--tasks", "medqq", "--base", "x"), 2, "there is no task medqq; did you mean medqa?"),
        (("--suite", "nonsense", "--base", "x"), 2, "there is no suite nonsense: choose from chat, code, finance"),
        (("--suite", "Medicl", "--base", "x"), 2, "there is no suite Medicl; did you mean medical?"),
        (("--tasks", "missing.py:Task", "--base", "x"), 2, "there is no file missing.py"),
        (("--tasks", ",", "--base", "x"), 2, "name at least one task"),
        (("--tasks", "rows", "--base", ""), 2, "the base model has no name"),
        (("no-such-adapter", "--tasks", "rows"), 2, "adapter_model.safetensors is missing"),
        (
            ("--suite", "chat", "--base", "x", "--judge-url", "http://h/v1"),
            2,
            "needs both: --judge-url and --judge-model",
        ),
        (("--tasks", "rows", "--base", "x", *JUDGE), 2, "a judge is named, and none of the tasks asks one"),
        (("--suite", "chat", "--base", "x", "--judge-max-tokens", "5"), 2, "--judge-max-tokens needs a judge"),
        (("--tasks", "rows", "--limit", "0", "--base", "x"), 2, "greater than or equal to 1"),
    ],
)
def test_what_cannot_run_is_refused(run: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    ran = run("evaluate", *arguments)
    assert ran.code == code
    assert said in " ".join(ran.err.split())


def test_without_a_judge_its_tasks_are_not_run(run: Run, tmp_path: Path) -> None:
    data = ("--data", write_benches(tmp_path), "--base", "no-such-model", "--out", tmp_path / "out")
    ran = run("evaluate", "--suite", "chat", *data)
    assert ran.code == 2
    said = "nothing can be run: mt_bench, vicuna_bench: give --judge-url and --judge-model: a judge rates the answers"
    assert said in " ".join(ran.err.split())


def test_what_a_judge_may_cost_is_refused_in_numbers_before_a_model_is_looked_for(run: Run, tmp_path: Path) -> None:
    data = ("--data", write_benches(tmp_path), "--base", "no-such-model", "--out", tmp_path / "out")
    ran = run("evaluate", "--suite", "chat", *data, *JUDGE, "--judge-max-tokens", "40000")
    assert ran.code == 2
    said = " ".join(ran.err.split())
    assert "the judge m at 127.0.0.1:9 may have to read and write more than --judge-max-tokens 40,000" in said
    assert "at most 12 requests with " in said
    assert "24,576 tokens of replies" in said
    assert said.endswith("Nothing was sent")


def test_the_help_says_what_to_install(run: Run) -> None:
    assert "pip install 'fedloom[agent,eval]'" in run("evaluate", "--help").out


@pytest.mark.deep
def test_a_base_model_is_evaluated_and_a_second_run_asks_nothing(run: Run, data: Path, tmp_path: Path) -> None:
    from tests.support.tiny import make_model

    model, out = make_model(tmp_path / "tiny"), tmp_path / "out"
    options = ("--base", model, "--tasks", "rows,fpb", "--data", data, "--out", out, "--limit", "4", "--threads", "1")
    ran = run("evaluate", *options)
    assert ran.code == 0, ran.err
    assert "exact" in ran.out
    assert "4 of 6" in ran.out
    assert "fpb: not run: put fpb/Sentences_50Agree.txt" in ran.err
    [replies] = (out / "replies").glob("*.jsonl")
    before = replies.read_bytes()
    again = json.loads(run("evaluate", *options, "--json").out)
    assert replies.read_bytes() == before
    assert again["tasks"][0]["models"][0]["numbers"][0]["n"] == 4
    shutil.rmtree(out)


@pytest.mark.soak
def test_the_example_of_a_task_of_ones_own_runs_from_another_folder(tmp_path: Path) -> None:
    suites, elsewhere = tmp_path / "suites", tmp_path / "elsewhere"
    shutil.copytree(ROOT / "examples" / "evaluation", suites)
    (elsewhere / "evaluation-data" / "house").mkdir(parents=True)
    page = (ROOT / "docs" / "evaluating.md").read_text(encoding="utf-8")
    rows = page.partition("questions.jsonl`\n\n```json\n")[2].partition("```")[0]
    (elsewhere / "evaluation-data" / "house" / "questions.jsonl").write_text(rows)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "OMP_NUM_THREADS": "1"}

    def fedloom(*options: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "fedloom", "evaluate", "--threads", "1", *map(str, options)]
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=240)

    base = ("--base", ROOT / "examples" / "quickstart" / "model")
    listed = fedloom("--suite", "../suites/house.yaml", "--list")
    assert listed.stdout.splitlines()[1].split() == ["house", "exact", "2", "house/questions.jsonl"]
    ran = fedloom(*base, "--suite", "../suites/house.yaml")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1].split()[:5] == ["house", "exact", "2", "of", "2"]
    assert "fpb: not run: put fpb/Sentences_50Agree.txt" in ran.stderr
    assert (elsewhere / "evaluations" / "model" / "report.html").exists()
    alone = fedloom(*base, "--tasks", "../suites/my_task.py:HouseQuestions", "--json")
    assert alone.returncode == 0, alone.stderr
    [task] = json.loads(alone.stdout)["tasks"]
    assert task["models"][0]["numbers"][0]["n"] == 2
