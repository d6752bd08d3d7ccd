"""Numbers of evaluation tasks in a comparison: the rows' means and spreads, tables, JSON and CSV."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fedloom.comparison.criterion import Criterion, criterion_of
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method, MethodKind
from fedloom.comparison.results import MethodResult, Results
from fedloom.comparison.running.trial_scores import TaskNumbers, Training, TrialScores
from fedloom.comparison.showing.csv_file import write_results
from fedloom.comparison.showing.report import as_json, table
from fedloom.comparison.showing.verdict import best, caption
from fedloom.comparison.spec import read_comparison
from fedloom.comparison.tasks.scores import TaskScore
from fedloom.comparison.tasks.tables import not_run, task_tables

HYPERPARAMETERS = Hyperparameters(4e-3)
MISSING = "put fpb/x.txt into data"


def of_house(value: float, n: int = 4) -> list[TaskScore]:
    """A task with a share and a perplexity, a missing one, and a mean that needs it."""
    share = TaskScore("house", "exact", value, n, 4, 970, is_share=True, lower_is_better=False)
    perplexity = TaskScore("house", "ppl", 10 * value, n, 4, 970, is_share=False, lower_is_better=True)
    missing = TaskScore("fpb", "acc", None, 0, 0, 0, is_share=True, lower_is_better=False, not_run=MISSING)
    mean = TaskScore("", "mean_acc", None, 0, 0, 0, is_share=True, lower_is_better=False, not_run="needs fpb")
    return [share, perplexity, missing, mean]


def result(name: str, kind: MethodKind, *seeds: list[TaskScore]) -> MethodResult:
    found = MethodResult(Method(name, kind), HYPERPARAMETERS)
    for seed, tasks in enumerate(seeds, start=1):
        found.scores[seed] = {}
        found.tasks[seed] = tasks
    return found


RESULTS = Results(
    "r",
    Criterion("house.exact", measured_on="the items of house"),
    [1, 2],
    [
        result("base model", MethodKind.BASE, of_house(0.25), of_house(0.25)),
        result("fedavg", MethodKind.ALGORITHM, of_house(0.5), of_house(0.75, n=3)),
        result("client-00 alone", MethodKind.ALONE, of_house(0.0), of_house(0.25)),
        result("client-01 alone", MethodKind.ALONE, of_house(0.5), of_house(0.5)),
        MethodResult(Method("pooled", MethodKind.POOLED), failures=["diverged"]),
    ],
)


def printed() -> str:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(table(RESULTS), *task_tables(RESULTS))
    return captured.get()


def test_each_task_has_a_table_with_items_means_and_spreads() -> None:
    ranked, _, of_task = printed().partition("house  ")
    assert "fedavg ★" in ranked
    assert of_task.splitlines()[0].split() == ["ITEMS", "EXACT", "PPL"]
    lines = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in of_task.splitlines()[1:]}
    assert lines["fedavg"] == "3–4 of 970  62.5 ± 17.7  6.250 ± 1.768"
    assert lines["mean of clients alone"] == "4 of 970   31.2 ± 8.8  3.125 ± 0.884"
    assert lines["pooled"].split() == ["failed", "failed"]
    assert not_run(RESULTS) == {"fpb": MISSING, "mean_acc": "needs fpb"}


def test_a_number_that_only_some_trials_lack_has_its_reason_by_trial() -> None:
    failed = [replace(score, value=None, n=0, not_run="the sandbox failed") for score in of_house(0.5)[:2]]
    methods = [
        result("base model", MethodKind.BASE, of_house(0.25), of_house(0.25)),
        result("fedavg", MethodKind.ALGORITHM, of_house(0.5), [*failed, *of_house(0.5)[2:]]),
    ]
    found = Results("r", RESULTS.ranked_by, [1, 2], methods)
    assert found.rows()[1].mean("house.exact") is None
    assert not_run(found) == {
        "fpb": MISSING,
        "mean_acc": "needs fpb",
        "house, fedavg, seed 2": "the sandbox failed",
    }


def test_scripts_get_values_by_seed_counts_and_reasons() -> None:
    found = as_json(RESULTS)
    assert (found["ranked_by"], found["best"]) == ("house.exact", "fedavg")
    fedavg = found["rows"][1]
    assert fedavg["scores"] == {"house.exact": [0.5, 0.75], "house.ppl": [5.0, 7.5]}
    house, _, fpb, mean = fedavg["evaluation"]
    assert (house["values"], house["mean"], house["n"]) == ([0.5, 0.75], 0.625, [4, 3])
    assert (house["n_asked"], house["n_published"], house["not_run"]) == (4, 970, None)
    assert (fpb["values"], fpb["mean"], fpb["not_run"]) == ([], None, MISSING)
    assert (mean["task"], mean["metric"], mean["not_run"]) == (None, "mean_acc", "needs fpb")


def test_the_csv_has_each_number_with_its_items_or_why_there_is_none(tmp_path: Path) -> None:
    write_results(RESULTS, tmp_path / "r.csv")
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert len(rows) == 4 * 2 * 4
    [one] = [row for row in rows if (row["method"], row["seed"], row["metric"]) == ("fedavg", "2", "exact")]
    assert (one["split"], one["task"], one["value"], one["n"], one["n_asked"]) == (
        "evaluation",
        "house",
        "0.75",
        "3",
        "4",
    )
    assert all(row["not_run"] == MISSING and row["value"] == row["n"] == "" for row in rows if row["task"] == "fpb")


def test_a_metric_of_which_less_is_better_ranks_rows_so() -> None:
    by_perplexity = Criterion("house.ppl", lower_is_better=True, measured_on="the items of house")
    methods = [
        result("a", MethodKind.ALGORITHM, of_house(0.5)),
        result("b", MethodKind.ALGORITHM, of_house(0.25)),
    ]
    found = best(Results("r", by_perplexity, [1], methods))
    assert found is not None
    assert found.name == "b"
    tie = Results("r", by_perplexity, [1], [methods[0], methods[0]])
    assert caption(tie).endswith("every method has 5.000, so the items of house do not tell them apart")


def test_test_rows_rank_where_there_are_any() -> None:
    both = result("a", MethodKind.ALGORITHM, of_house(0.5))
    both.scores[1]["loss"] = 2.0
    results = Results("r", criterion_of("loss"), [1], [both])
    assert results.metrics == ["loss"]
    assert results.rows()[0].scores.keys() == {"house.exact", "house.ppl", "loss"}


def test_scores_of_a_trial_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = TrialScores(
        {"validation": {"loss": 1.5}}, {"choosing": TaskNumbers({"seed": 0}, of_house(0.5))}, Training(5, 3, 2)
    )
    written.write(tmp_path, {"steps": 3})
    assert TrialScores.read(tmp_path, {"steps": 3}) == written
    assert TrialScores.read(tmp_path, {"steps": 4}) is None


@pytest.mark.parametrize(
    "text", ["[]", "null", "{", '{"of": {}, "rows": 5}', '{"of": {}, "tasks": [1]}', "[" * 100_000]
)
def test_a_damaged_file_of_scores_counts_as_none(tmp_path: Path, text: str) -> None:
    TrialScores().write(tmp_path, {})
    assert TrialScores.read(tmp_path, {}) == TrialScores()
    (tmp_path / "scores.json").write_text(text)
    assert TrialScores.read(tmp_path, {}) is None


@pytest.mark.parametrize(
    ("evaluation", "suites", "tasks"),
    [
        ("suite: own.yaml", ["HERE/own.yaml"], None),
        ("suite: finance", ["finance"], None),
        ("suite: [/x/own.yaml, finance]", ["/x/own.yaml", "finance"], None),
        ("tasks: [fpb, 'a/b.py:C']", None, ["fpb", "HERE/a/b.py:C"]),
    ],
)
def test_names_of_files_are_relative_to_the_comparison_file(
    tmp_path: Path, evaluation: str, suites: list[str] | None, tasks: list[str] | None
) -> None:
    text = f"name: x\nclients: 3\nvalidation: v\nevaluation: {{{evaluation}}}\n"
    (tmp_path / "c.yaml").write_text(text)
    spec = read_comparison(tmp_path / "c.yaml")
    assert spec.test is None
    assert spec.evaluation is not None
    here = str(tmp_path)
    assert spec.evaluation.suites == [name.replace("HERE", here) for name in suites or ()]
    assert spec.evaluation.tasks == (tasks and [name.replace("HERE", here) for name in tasks])
    assert spec.evaluation.data == tmp_path / "evaluation-data"
