"""A whole evaluation over models that only count: what is in the results, what is not run, and how a run goes on."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from fedloom.errors import EvaluationError
from fedloom.evaluation.asking.models import Model, NoChatTemplate
from fedloom.evaluation.asking.requests import Generate
from fedloom.evaluation.running.plan import Plan, Progress
from fedloom.evaluation.running.run import run
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.statistics.averages import Average
from fedloom.evaluation.tasks.base import (
    BadData,
    DataFile,
    DataMissing,
    HarnessFailed,
    Item,
    Items,
    Outcome,
    Task,
    TaskMetric,
)
from shared.digest import sha256_hex
from tests.support.counting_model import CountingModel
from tests.support.results import read_results

ACC = TaskMetric("acc", "accuracy", "an even number", chance=0.5)


class Even(Task):
    """An item is right if the model's number is even."""

    title = "Even <numbers>"
    metrics = (ACC,)
    files = (DataFile("even/test.jsonl", where="make it up", licence="CC0"),)
    origin = "made up"

    def __init__(self, name: str = "even", problem: Exception | None = None) -> None:
        self.name = name
        self._problem = problem

    def load(self, data: Path) -> Items:
        if isinstance(self._problem, (DataMissing, BadData)):
            raise self._problem
        items = [Item(f"{self.name}-{n}", f"group {n % 4}", {"n": n}) for n in range(40)]
        return Items(items, 400, {"even/test.jsonl": "e" * 64}, ["a slice"])

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        if self._problem is not None:
            raise self._problem
        replies = model.ask([Generate(item.id) for item in items])
        return [
            Outcome(
                item.id,
                item.group,
                {"acc": float(int(reply.text.split()[-1]) % 2 == 0)},
                prompt_sha256=sha256_hex(item.id.encode()),
                reply=reply.text,
            )
            for item, reply in zip(items, replies, strict=True)
        ]


def plan(*tasks: Task, **changes: object) -> Plan:
    averages = [Average("both", "both", ACC, ("even", "other"))]
    return Plan(**{"tasks": tasks, "averages": averages, "suite": "own", "data": Path(), **changes})  # type: ignore[arg-type]


def models() -> list[CountingModel]:
    return [CountingModel(), CountingModel("mine", "a" * 64)]


def test_all_models_get_the_same_items_and_are_compared(tmp_path: Path) -> None:
    base, mine = models()
    results = run(plan(Even(), Even("other"), limit=12), [base, mine], tmp_path)
    assert [each.prompt for each in base.asked] == [each.prompt for each in mine.asked]
    [task, _] = results.tasks
    assert len(task.items) == 12
    assert {item.rpartition("-")[0] for item in task.items} == {"even"}
    assert (task.n_published, task.digests, task.notes) == (400, {"even/test.jsonl": "e" * 64}, ["a slice"])
    [number] = task.models[0].numbers
    assert (number.n, number.n_asked, number.n_published) == (12, 12, 400)
    assert task.models[0].differences == []
    [difference] = task.models[1].differences
    assert difference.value is not None
    other = task.models[1].numbers[0].value
    assert number.value is not None
    assert other is not None
    assert difference.value == pytest.approx(other - number.value)
    assert task.models[0].prompts_sha256 == task.models[1].prompts_sha256
    assert set(results.averages) == {"base", "mine"}
    assert results.averages["base"][0].value is not None
    assert results.versions["fedloom"]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = run(plan(Even(), Even("other", DataMissing("put x there")), limit=8), models(), tmp_path, print)
    (tmp_path / "again").mkdir()
    read_results(tmp_path).write(tmp_path / "again")
    assert (tmp_path / "again" / "results.json").read_bytes() == (tmp_path / "results.json").read_bytes()
    assert results.is_complete
    raw = json.loads((tmp_path / "results.json").read_text())
    assert "even-0 " not in (tmp_path / "results.json").read_text(), "no reply is in it"
    assert raw["tasks"][0]["models"][0]["numbers"][0]["metric"]["rule"] == "an even number"
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines[0].startswith("task,metric,model,unit,value,low,high,method")
    assert len(lines) == 1 + 2 + 2
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    share = results.tasks[0].models[0].numbers[0].value
    assert share is not None
    assert (row["unit"], float(row["value"])) == ("%", 100 * share)
    items = (tmp_path / "items" / "even" / "mine.jsonl").read_text().splitlines()
    assert len(items) == 8
    assert "reply" in json.loads(items[0])


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        (DataMissing("put even/test.jsonl into data"), "put even/test.jsonl into data"),
        (BadData("even/test.jsonl has 3 rows, and 40 were published"), "has 3 rows"),
        (NoChatTemplate("no chat template"), "no chat template"),
        (HarnessFailed("the sandbox failed at 1 of 40 programs"), "the sandbox failed at 1 of 40 programs"),
        (NoIsolation("bwrap is not installed"), "bwrap is not installed"),
    ],
)
def test_what_cannot_run_says_why_and_is_no_zero(tmp_path: Path, problem: Exception, why: str) -> None:
    results = run(plan(Even(), Even("other", problem)), models(), tmp_path, lambda _: None)
    [_, other] = results.tasks
    assert why in other.not_run
    assert all(number.value is None and why in number.not_run for each in other.models for number in each.numbers)
    [average] = results.averages["base"]
    assert average.value is None
    assert average.not_run.startswith("needs ")
    page = (tmp_path / "report.html").read_text()
    assert "Not run: " in page
    assert why in page


class Fails(Even):
    """The sandbox fails at the adapter's programs, after the base's have all run."""

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        if model.facts.adapter_sha256 is not None:
            raise HarnessFailed("the sandbox failed at 1 of 40 programs")
        return super().run(items, model)


def test_what_fails_for_one_model_voids_the_number_of_all(tmp_path: Path) -> None:
    [task] = run(plan(Fails()), models(), tmp_path).tasks
    assert task.not_run == "the sandbox failed at 1 of 40 programs"
    assert [number.value for model in task.models for number in model.numbers] == [None, None]
    assert not list((tmp_path / "items").glob("*"))


class Lost(Even):
    """Some items do not count for the adapter; for none of the models if its base takes few tokens."""

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        found = super().run(items, model)
        n = 0 if model.facts.n_positions == 8 else 40 if model.facts.adapter_sha256 is None else 30
        lost = [
            Outcome(each.item, each.group, problem=f"needs {9 + place} positions, and the model has 8")
            for place, each in enumerate(found[n:])
        ]
        return [*found[:n], *lost]


def test_a_difference_is_over_the_items_that_count_for_both(tmp_path: Path) -> None:
    [task] = run(plan(Lost()), models(), tmp_path).tasks
    base, mine = (model.numbers[0] for model in task.models)
    assert (base.n, mine.n, mine.n_asked) == (40, 30, 40)
    assert mine.problems == {"needs 9 to 18 positions, and the model has 8": 10}
    [difference] = task.models[1].differences
    lines = [json.loads(line) for line in (tmp_path / "items" / "even" / "base.jsonl").read_text().splitlines()]
    both = sum(line["values"]["acc"] for line in lines[:30]) / 30
    assert mine.value is not None
    assert (difference.n, difference.value) == (30, pytest.approx(mine.value - both))
    page = (tmp_path / "report.html").read_text()
    assert "30 of 40 asked of 400" in page
    assert "mine: 10 not counted: needs 9 to 18 positions, and the model has 8" in page


def test_where_no_item_fits_a_task_is_not_run(tmp_path: Path) -> None:
    small = models()
    for model in small:
        model.facts = replace(model.facts, n_positions=8)
    [task] = run(plan(Lost()), small, tmp_path).tasks
    assert task.not_run == "needs 9 to 48 positions, and the model has 8"
    assert "Not run: needs 9 to 48 positions" in (tmp_path / "report.html").read_text()


def test_a_folder_holds_the_items_of_its_last_run_alone(tmp_path: Path) -> None:
    base, mine = models()
    run(plan(Even(), Even("other"), limit=8), [base, mine], tmp_path)
    run(plan(Even(), limit=8), [base, CountingModel("yours", "c" * 64)], tmp_path)
    items = tmp_path / "items"
    assert {path.relative_to(items).as_posix() for path in items.rglob("*")} == {
        "even",
        "even/base.jsonl",
        "even/yours.jsonl",
    }
    assert len(base.asked) == 16, "the base was not asked again"
    for name in ("results.json", "results.csv", "report.html"):
        text = (tmp_path / name).read_text()
        assert "yours" in text
        assert "mine" not in text


def test_files_of_a_run_that_was_killed_are_all_of_that_run(tmp_path: Path) -> None:
    run(plan(Even("elsewhere")), models(), tmp_path)
    base, mine = models()
    base.dies_after = 50
    with pytest.raises(RuntimeError):
        run(plan(Even(), Even("third")), [base, mine], tmp_path)
    assert not read_results(tmp_path).is_complete
    for name in ("results.json", "results.csv", "report.html"):
        assert "elsewhere" not in (tmp_path / name).read_text()
    assert "not complete" in (tmp_path / "report.html").read_text()


def test_a_run_that_was_killed_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    whole = run(plan(Even(), Even("other")), models(), tmp_path / "whole")
    for dies_after in (1, 30, 50, 75):
        folder = tmp_path / f"after-{dies_after}"
        base, mine = models()
        base.dies_after = dies_after
        with pytest.raises(RuntimeError):
            run(plan(Even(), Even("other")), [base, mine], folder)
        asked_before = len(base.asked)
        base.dies_after = None
        again = run(plan(Even(), Even("other")), [base, mine], folder)
        assert [each.models[0].numbers for each in again.tasks] == [each.models[0].numbers for each in whole.tasks]
        assert len(base.asked) - asked_before <= 80 - (asked_before - 32)  # those asked together


def test_a_larger_limit_asks_only_what_is_new(tmp_path: Path) -> None:
    base, mine = models()
    run(plan(Even(), limit=10), [base, mine], tmp_path)
    run(plan(Even(), limit=20), [base, mine], tmp_path)
    assert len(base.asked) == 20


def test_progress_names_task_and_model(tmp_path: Path) -> None:
    told: list[Progress] = []
    run(plan(Even()), models(), tmp_path, told.append)
    assert {(each.task, each.model) for each in told} == {("", ""), ("even", "base"), ("even", "mine"), ("even", "")}
    assert [each.items_done for each in told] == sorted(each.items_done for each in told)
    assert (told[-1].items_done, told[-1].items_total) == (80, 80)
    assert max(each.done for each in told) == 40
    assert all(each.total in (0, 40) for each in told)
    assert len(told[-1].results.tasks) == 1


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "evaluation.lock"),
        pytest.raises(EvaluationError, match="another process runs the evaluation"),
    ):
        run(plan(Even()), models(), tmp_path)


def test_the_page_is_self_contained_and_escapes_what_others_wrote(tmp_path: Path) -> None:
    base = CountingModel()
    hostile = CountingModel("<script>alert(1)</script>", "b" * 64)
    run(plan(Even()), [base, hostile], tmp_path, lambda _: None)
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "Even &lt;numbers&gt;" in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 2
    assert "chance" in page
