"""`fedloom compare` with values of campaign fields, chosen by a task: it grows, and trains nothing twice."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_comparison import compare
from tests.e2e.test_comparison_by_tasks import CAMPAIGN, example, folder, weights_of, write_comparison

__all__ = ["folder"]
pytestmark = pytest.mark.train

OPTIONS = ("--algorithms", "fedavg", "--seeds", 1, "--baselines", "none")


def sweep(folder: Path, ranks: list[int], **more: Any) -> None:
    evaluation = {"tasks": ["my_task.py:HouseQuestions"]}
    grid = {"params": {}, "fields": {"lora.rank": ranks}}
    write_comparison(folder, example() | {"evaluation": evaluation, "choose": "house.exact", "grid": grid, **more})


@pytest.mark.soak
def test_further_values_train_only_what_is_missing(folder: Path) -> None:
    sweep(folder, [2])
    first = compare(folder, *OPTIONS, "--json")
    assert first.returncode == 0, first.stderr
    assert "up to 1 training: 1 with the first seed\n" in first.stderr
    assert "note: house: 2 items are for choosing, and 3 others for the table\n" in first.stderr
    trained = weights_of(folder)

    sweep(folder, [4, 2], rank="house.exact")
    second = compare(folder, *OPTIONS, "--json")
    assert second.returncode == 0, second.stderr
    now = weights_of(folder)
    assert trained.items() <= now.items(), "what was trained is kept"
    assert {path.relative_to(folder / "out/runs").parts[1] for path in now} == {
        "fedavg-lr0.01",  # the campaign's own rank
        "fedavg-lr0.01-lora.rank4",
    }
    found = json.loads(second.stdout)
    assert (found["chosen_by"], found["ranked_by"]) == ("house.exact", "house.exact")
    assert [each["fields"]["lora.rank"] for each in found["tried"]] == [4, 2]
    assert [each["is_chosen"] for each in found["tried"]].count(True) == 1
    assert all(each["scores"].keys() == {"house.exact"} for each in found["tried"])
    for row in found["rows"]:
        [house] = row["evaluation"]
        assert house["n"] == [3], "the other items are for choosing"
    rows = list(csv.DictReader((folder / "out" / "results.csv").open(encoding="utf-8")))
    tried = [row for row in rows if row["split"] == "choosing" and row["method"] == "fedavg"]
    assert [(row["fields"], row["n"]) for row in tried] == [("lora.rank=4", "2"), ("lora.rank=2", "2")]


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        (
            {"grid": {"params": {}, "fields": {"lora.rnk": [1]}}},
            (),
            "comparison.json, line 1: grid.fields.lora.rnk: unknown field; did you mean rank?",
        ),
        ({"choose": "house.exct"}, (), "comparison.json, line 1: choose: house.exct is no metric on rows"),
        ({}, ("--max-trainings", 1), "the comparison may need 2 trainings, more than 1"),
    ],
)
def test_a_sweep_that_cannot_run_is_refused_before_anything_runs(
    folder: Path, changes: dict[str, Any], options: tuple[object, ...], says: str
) -> None:
    sweep(folder, [2, 4], **changes)
    refused = compare(folder, *OPTIONS, *options)
    assert refused.returncode == 2, refused.stderr
    assert "Traceback" not in refused.stderr
    assert says in refused.stderr
    assert not (folder / "out").exists()


@pytest.mark.deep
def test_a_trial_that_stops_early_is_scored_by_its_best_adapter_and_the_note_says_so(folder: Path) -> None:
    sweep(folder, [2])
    stop = {"stop": {"patience": 1, "min_delta": 100.0}}  # nothing is an improvement
    (folder / "campaign.yaml").write_text(json.dumps(CAMPAIGN | {"rounds": 4, "evaluation": stop}))
    with (folder / "agent.toml").open("a") as settings:
        settings.write("held_out = 0.4\n")
    done = compare(folder, *OPTIONS, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    [training] = found["rows"][1]["training"]
    assert (training["seed"], training["rounds"], training["rounds_closed"]) == (3, 4, 1)
    [note] = [each for each in found["notes"] if "stopped early" in each]
    assert note == f"fedavg stopped early: seed 3 after round 1 of 4, adapter {training['adapter']} scored"
    card = next((folder / "out").rglob("adapter/fedloom.json"))
    assert json.loads(card.read_text())["adapter_number"] == training["adapter"]
