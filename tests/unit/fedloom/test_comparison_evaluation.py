"""Evaluation tasks of a comparison: what is stored of a trial, and items in the owners' rows."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.data.source import DataSource
from fedloom.comparison.methods import Hyperparameters, Method, MethodKind
from fedloom.comparison.tasks.evaluation import TaskEvaluation
from fedloom.comparison.tasks.section import TasksSection
from fedloom.comparison.trial import Trial
from fedloom.comparison.trial_scores import TrialScores
from fedloom.errors import ComparisonError
from fedloom.evaluation.harness.running import HarnessMissing
from fedloom.evaluation.sandbox.program import Kind, Result
from fedloom.evaluation.sandbox.sandbox import Sandbox
from tests.support.published import code as made_up
from tests.support.published.code import BODY, write
from tests.support.published.harness import gsm8k
from tests.support.stand_in_models import StandIn, saying

ROWS = [{"prompt": f"Where does the ship number {n} of the line go?", "completion": f"To port {n}."} for n in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data of HumanEval and of rows of one's own."""
    write(tmp_path / "data", "humaneval/HumanEval.jsonl.gz", made_up.HUMANEVAL)
    write(tmp_path / "data", "rows/test.jsonl", ROWS)
    return tmp_path


def evaluation(folder: Path, *tasks: str, rows: Sequence[dict[str, Any]] = (), **columns: Any) -> TaskEvaluation:
    """Of tasks, beside owners with rows. Programs run without a sandbox, so that none is needed."""
    training = folder / "training.jsonl"
    training.write_text("".join(f"{json.dumps(row)}\n" for row in rows or [{"prompt": "Why?", "completion": "So."}]))
    section = TasksSection(tasks=list(tasks), data=folder / "data")
    return TaskEvaluation(section, DataSource(path=training, **columns), run_untrusted_code=True)


def run(folder: Path, asked: TaskEvaluation, model: StandIn) -> TrialScores:
    """As a comparison scores its base model."""
    trial = Trial(Method("base model", MethodKind.BASE), Hyperparameters(1.0), 1, folder / "trial", None)
    scorer: Any = SimpleNamespace(model=lambda _name, _adapter: model)
    return trial.run(scorer, {}, asked, threading.Event(), lambda _: None)


class FailingSandbox:
    """In the place of ``Sandbox.run``: fails at the first programs, and counts what ran later."""

    def __init__(self) -> None:
        self.n_runs = 0

    def __call__(self, programs: Sequence[Any]) -> list[Result]:
        self.n_runs += 1
        if self.n_runs > 1:
            return [Result(Kind.PASSED, "", is_isolated=True) for _ in programs]
        return [Result(Kind.HARNESS_ERROR, "no process could be started", is_isolated=True) for _ in programs]


def test_after_a_failed_sandbox_the_same_command_runs_the_programs_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = FailingSandbox()
    monkeypatch.setattr(Sandbox, "run", lambda _self, programs: sandbox(programs))
    model = saying(BODY)
    first = run(folder, evaluation(folder, "humaneval", "rows"), model)
    assert first.tasks is not None
    assert "the same command runs the programs again" in first.tasks[0].not_run
    assert [score.value for score in first.tasks if score.task == "humaneval"] == [None]
    n_asked = len(model.asked)

    second = run(folder, evaluation(folder, "humaneval", "rows"), model)
    assert second.tasks is not None
    assert [score.value for score in second.tasks if score.task == "humaneval"] == [1.0]
    assert [score for score in first.tasks if score.task == "rows"] == second.tasks[1:]
    assert (sandbox.n_runs, len(model.asked)) == (2, n_asked), "replies are stored"
    assert run(folder, evaluation(folder, "humaneval", "rows"), model) == second
    assert sandbox.n_runs == 2, "a number is stored"


def test_what_no_other_run_changes_is_stored(folder: Path) -> None:
    model = saying("To port 1.")
    first = run(folder, evaluation(folder, "rows", "humaneval_chat"), model)
    assert first.tasks is not None
    assert (first.tasks[-1].task, first.tasks[-1].value) == ("humaneval_chat", None)
    report = folder / "trial" / "evaluation" / "report.html"
    report.unlink()
    assert run(folder, evaluation(folder, "rows", "humaneval_chat"), model) == first
    assert not report.exists(), "a model without a chat template is not asked again"


def test_data_is_read_once_for_all_models(folder: Path) -> None:
    asked = evaluation(folder, "rows")
    (folder / "data" / "rows" / "test.jsonl").unlink()
    for name in ("one", "two"):
        scores = asked.scores(saying("To port 1."), folder / name, lambda: None)
        assert scores[0].n == len(ROWS)


TALKS = [{"messages": [{"role": "user", "content": row["prompt"]}]} for row in ROWS[:2]]
PAIRS = [{"prompt": "?", "chosen": row["prompt"], "rejected": "No."} for row in ROWS[:2]]


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(TALKS, {"messages": "messages"}), (PAIRS, {}), ([{"q": row["prompt"], "a": 3} for row in ROWS[:2]], {})],
)
def test_items_are_looked_for_in_every_column_of_the_owners_rows(
    folder: Path, rows: list[dict[str, Any]], columns: dict[str, str]
) -> None:
    found = evaluation(folder, "humaneval", "rows", rows=rows, **columns)
    assert found.overlaps == ["2 of 6 items of rows (33.3%) occur in the 2 training rows, 2 exactly"]
    assert found.not_run == []


def test_a_task_without_data_is_named_and_the_others_run(folder: Path) -> None:
    found = evaluation(folder, "fpb", "rows")
    [reason] = found.not_run
    assert reason.startswith("fpb: not run: put fpb/Sentences_50Agree.txt")
    assert [task["name"] for task in found.facts["tasks"] if "items" in task] == ["rows"]
    with pytest.raises(ComparisonError, match=r"^evaluation: nothing can be run: fpb: put fpb/.*; nor can 1 other, as"):
        evaluation(folder, "fpb", "nwgi")


def test_without_the_harness_only_tasks_that_have_data_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedloom.evaluation.harness.running.find_spec", lambda _: None)
    [reason] = evaluation(folder, "gsm8k", "rows").not_run
    assert "gsm8k/" in reason
    gsm8k(folder / "data")
    with pytest.raises(HarnessMissing):
        evaluation(folder, "gsm8k", "rows")
