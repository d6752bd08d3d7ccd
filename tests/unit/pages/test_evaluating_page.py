"""The page on evaluation has every metric, and its example works."""

import json
from pathlib import Path

import pytest

from fedloom.evaluation.asking.requests import Generate, Likelihood, Rolling
from fedloom.evaluation.data.file_groups import groups_of
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.running.run import run
from fedloom.evaluation.suites import built_in, read_suite
from fedloom.evaluation.tasks.base import Item, Items, Outcome, Task
from fedloom.evaluation.tasks.registry import TASKS, find_task
from fedloom.reference.evaluation_table import lines
from tests.support.counting_model import CountingModel

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "evaluation"
SET_ELSEWHERE = {"defined_in", "n_published", "run_untrusted_code", "in_chat", "shots", "origin"}
"""Set by the runner, or of no use in a task of one's own."""
PAGE = (ROOT / "docs" / "evaluating.md").read_text(encoding="utf-8")


def test_the_table_is_that_of_the_tasks() -> None:
    command = "python -m fedloom.reference.evaluation_table"
    assert PAGE.partition("## All metrics\n\n")[2].splitlines() == [*lines()], f"{command} prints it"


def test_the_tables_have_every_task_metric_and_file_and_no_long_cell() -> None:
    tables = PAGE.partition("## All metrics\n\n")[2]
    for task in (TASKS[name]() for name in TASKS):
        assert tables.count(f"`{task.name}`") == 2, "among the metrics, and among the data"
        assert all(f"`{metric.name}`" in tables for metric in task.metrics)
        assert all(f"`{group.name}`" in tables for group in groups_of(task.files))
    assert max(len(cell) for line in tables.splitlines() for cell in line.split(" | ")) < 350


def test_every_task_of_a_suite_exists() -> None:
    named = {task for name in built_in() for task in read_suite(name)[0].tasks}
    assert named <= TASKS.keys()
    assert all(f"`{name}`" in PAGE for name in built_in())


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_says_where_its_data_is_from(name: str) -> None:
    task = find_task(name)
    assert task.title
    assert task.origin
    assert task.metrics
    for file in task.files:
        assert file.where, file.path
        assert file.licence, file.path


@pytest.mark.parametrize(("name", "language"), [("house.yaml", "yaml"), ("my_task.py", "python")])
def test_the_example_on_the_page_is_the_file(name: str, language: str) -> None:
    text = (EXAMPLE / name).read_text(encoding="utf-8")
    assert f"`{name}`\n\n```{language}\n{text}```\n" in PAGE


def test_the_page_explains_each_part_of_a_task() -> None:
    section = PAGE.partition("## A suite and a task of your own")[2].partition("## All metrics")[0]
    for part in (*Task.__annotations__, *Task.__abstractmethods__, "compute"):
        if part not in SET_ELSEWHERE:
            assert f"`{part}" in section or f", `{part}`" in section, part
    for kind in (Generate, Likelihood, Rolling, Item, Items, Outcome):
        assert f"`{kind.__name__}(" in section


def test_a_task_of_ones_own_runs_in_a_suite_and_says_which_line_is_wrong(tmp_path: Path) -> None:
    folder = EXAMPLE
    rows = [{"question": f"What is {n}?", "answer": "yes", "department": "east"} for n in range(5)]
    (tmp_path / "house").mkdir()
    questions = tmp_path / "house" / "questions.jsonl"
    questions.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    plan = planned(str(folder / "house.yaml"), None, data=tmp_path, limit=4)
    results = run(plan, [CountingModel()], tmp_path / "out", lambda _: None)
    house, fpb = results.tasks
    assert house.models[0].numbers[0].n == 4
    assert "put fpb/Sentences_50Agree.txt" in fpb.not_run
    questions.write_text(f"{json.dumps(rows[0])}\n{{}}\n")
    [house, _] = run(plan, [CountingModel()], tmp_path / "out", lambda _: None).tasks
    assert house.not_run == "house/questions.jsonl: row 2 has no question and no answer and no department"


def test_the_exam_of_the_quickstart_is_asked_exactly(tmp_path: Path) -> None:
    task = find_task("exam.py:Exam", EXAMPLE)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "test.jsonl").write_text('{"prompt": "Where?", "completion": "There."}\n')
    [item] = task.load(tmp_path).items
    assert (task.name, item.content["completion"]) == ("exam", "There.")
    assert task.in_chat
