"""`fedloom compare` by evaluation tasks, on the quickstart's model: the example of docs/comparing.md, and one task."""

import csv
import json
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.test_comparison import SETTINGS, argv, compare, environment
from tests.support.forks import preloaded
from tests.support.processes import ROOT, Process

pytestmark = pytest.mark.train

CAMPAIGN: dict[str, Any] = {
    "name": "tiny",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 2},
    "training": {"steps": 1, "batch_size": 2, "max_length": 64, "learning_rate": 0.01, "seed": 3},
    "data": {"name": "rows"},
    "rounds": 1,
    "selection": {"minimum": 2},
}
QUICK = ("--algorithms", "fedavg", "--seeds", 1)


def example() -> dict[str, Any]:
    """The comparison file of the page."""
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(
        page.partition("## By any suite")[2].partition("```yaml\n")[2].split("```")[0]
    )
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the example and all that it names: two clients, one round of one step."""
    rows = [{"instruction": f"What is {n}?", "input": "", "output": f"It is {n % 3}."} for n in range(24)]
    for name, some in (("rows", rows[8:]), ("validation", rows[:8])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    (tmp_path / "agent.toml").write_text(SETTINGS.format(model=ROOT / "examples" / "quickstart" / "model"))
    (tmp_path / "campaign.yaml").write_text(json.dumps(CAMPAIGN))
    for name in ("house.yaml", "my_task.py"):
        shutil.copy(ROOT / "examples" / "evaluation" / name, tmp_path)
    write_questions(tmp_path, 5)
    write_comparison(tmp_path, example())
    return tmp_path


def write_questions(folder: Path, n: int) -> None:
    """The quickstart's model says "is" to each of these, and that is right for every second one."""
    answers = ["is" if each % 2 else "seven" for each in range(n)]
    questions = [
        {"question": f"What is {each}?", "answer": answer, "department": "east"} for each, answer in enumerate(answers)
    ]
    path = folder / "evaluation-data" / "house" / "questions.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in questions))


def write_comparison(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / "comparison.json").write_text(json.dumps(content))


def weights_of(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in (folder / "out").rglob("adapter_model.safetensors")}


@pytest.mark.soak
def test_the_example_scores_every_row_by_a_suite_with_a_task_of_ones_own(folder: Path) -> None:
    options = ("--algorithms", "fedavg", "--seeds", 2)
    done = compare(folder, *options)
    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.partition("scoring the base model")
    assert "note: fpb: not run: put fpb/Sentences_50Agree.txt" in before
    assert after.count("fpb: not run: put fpb/Sentences_50Agree.txt") == 1
    assert "\nfpb: not run: put fpb/Sentences_50Agree.txt" in after
    lines = done.stdout.splitlines()
    head = next(place for place, line in enumerate(lines) if line.split()[:2] == ["house", "ITEMS"])
    names = ["base model", "fedavg", "client-00 alone", "client-01 alone", "mean of clients alone"]
    assert [line.split("  ")[0] for line in lines[head + 1 : head + 6]] == names
    assert all("5 of 5" in line and "±" in line for line in lines[head + 1 : head + 6])
    trained = weights_of(folder)

    write_questions(folder, 6)
    again = compare(folder, *options, "--json")
    assert again.returncode == 0, again.stderr
    assert weights_of(folder) == trained, "other items train nothing anew"
    found = json.loads(again.stdout)
    assert not any("not run" in note for note in found["notes"]), "each row says it beside its numbers"
    assert found["ranked_by"] == "house.exact"
    assert len(found["rows"]) == 7
    assert found["rows"][0]["scores"] == {"house.exact": [0.5, 0.5]}
    for row in found["rows"]:
        house, *fpb = row["evaluation"]
        assert (house["task"], house["metric"]) == ("house", "exact")
        assert (set(house["n"]), house["n_asked"], house["n_published"]) == ({6}, 6, 6)
        assert len(house["values"]) == 2
        assert house["mean"] == pytest.approx(sum(house["values"]) / 2)
        assert house["spread"] is not None
        assert fpb
        assert all(each["values"] == [] and "put fpb/" in each["not_run"] for each in fpb)
    table = list(csv.DictReader((folder / "out" / "results.csv").open(encoding="utf-8")))
    of_house = [row for row in table if (row["split"], row["task"]) == ("evaluation", "house")]
    assert len(of_house) == 2 * 6
    assert {(row["n"], row["n_asked"], row["n_published"]) for row in of_house} == {("6", "6", "6")}
    assert all(not row["value"] and "put fpb/" in row["not_run"] for row in table if row["task"] == "fpb")
    assert (folder / "out" / "plot.png").stat().st_size > 1000
    assert len(list((folder / "out").rglob("evaluation/report.html"))) == 1 + 2 * 5, "the base model is asked once"


@pytest.mark.deep
@pytest.mark.fault
def test_a_task_joins_the_test_rows_and_a_killed_comparison_goes_on(folder: Path) -> None:
    shutil.copy(folder / "validation.jsonl", folder / "test.jsonl")
    tasks = {"tasks": ["my_task.py:HouseQuestions"], "limit": 4}
    write_comparison(folder, example() | {"test": "test.jsonl", "evaluation": tasks})
    options = (*QUICK, "--baselines", "none")
    killed = Process(argv(folder, *options), folder / "first.log", popen=preloaded.Preloaded, **environment())
    killed.wait_to_print("choosing hyperparameters on the validation rows, seed 3: 0/2")
    killed.popen.send_signal(signal.SIGKILL)
    killed.popen.wait(20)
    [replies] = (folder / "out").rglob("replies/*.jsonl")
    of_base = replies.read_bytes()
    assert len(of_base.split()) >= 4

    done = compare(folder, *options, "--json")
    assert done.returncode == 0, done.stderr
    assert replies.read_bytes() == of_base, "the base model is asked nothing twice"
    found = json.loads(done.stdout)
    assert found["ranked_by"] == "loss"
    for row in found["rows"]:
        assert row["scores"].keys() == {"loss", "house.exact"}
        [house] = row["evaluation"]
        assert (house["n"], house["n_asked"], house["n_published"]) == ([4], 4, 5)


FAILS_ONCE = """

from fedloom.evaluation.tasks.base import HarnessFailed


class Programs(HouseQuestions):
    def run(self, items, model):
        found = super().run(items, model)
        failed = Path(__file__).with_name("failed")
        if model.facts.adapter_sha256 is not None and not failed.exists():
            failed.touch()
            raise HarnessFailed("the sandbox failed at 1 of 5 programs")
        return found
"""


@pytest.mark.deep
@pytest.mark.fault
def test_a_sandbox_that_failed_is_asked_again_by_the_same_command(folder: Path) -> None:
    (folder / "my_task.py").write_text((folder / "my_task.py").read_text() + FAILS_ONCE)
    write_comparison(folder, example() | {"evaluation": {"tasks": ["my_task.py:Programs"]}})
    options = (*QUICK, "--baselines", "none")
    done = compare(folder, *options)
    assert done.returncode == 0, done.stderr
    assert "\nhouse, fedavg, seed 3: not run: the sandbox failed at 1 of 5 programs\n" in done.stdout
    trained = weights_of(folder)
    replies = {path: path.read_bytes() for path in (folder / "out").rglob("replies/*.jsonl")}
    again = compare(folder, *options, "--json")
    assert again.returncode == 0, again.stderr
    _, fedavg = json.loads(again.stdout)["rows"]
    assert [each["n"] for each in fedavg["evaluation"]] == [[5]]
    assert len(fedavg["scores"]["house.exact"]) == 1
    assert weights_of(folder) == trained
    assert {path: path.read_bytes() for path in (folder / "out").rglob("replies/*.jsonl")} == replies


@pytest.mark.parametrize(
    ("evaluation", "code", "says"),
    [
        (
            {"suite": "house.yaml", "data": "elsewhere"},
            2,
            "evaluation: nothing can be run: house: put house/questions.jsonl",
        ),
        ({"suite": "home.yaml"}, 1, "home.yaml"),
        ({"suite": "finanse"}, 2, "there is no suite finanse; did you mean finance?"),
        ({"tasks": ["my_task.py:Questions"]}, 2, "my_task.py has no class Questions"),
        ({"tasks": ["fpb", "fpb"]}, 2, "evaluation.tasks: fpb is given twice"),
        (
            {"tasks": ["my_task.py:HouseQuestions", "humaneval"]},
            2,
            "evaluation, humaneval: Code that a model writes runs",
        ),
        (
            {"tasks": ["my_task.py:HouseQuestions"], "suite": ["house.yaml", "house.yaml"]},
            2,
            "house.yaml is given twice",
        ),
        ({}, 2, "give a suite, or tasks"),
        (None, 2, "test: this field is needed without evaluation"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_runs(
    folder: Path, evaluation: dict[str, Any] | None, code: int, says: str
) -> None:
    write_comparison(folder, example() | {"evaluation": evaluation})
    (folder / "bin").mkdir()  # no bubblewrap
    refused = preloaded.run(argv(folder, *QUICK), **environment(), PATH=str(folder / "bin"))
    assert refused.returncode == code, refused.stderr
    assert "Traceback" not in refused.stderr
    assert says in refused.stderr
    assert not (folder / "out").exists()
