"""Evaluation tasks of a comparison: what is stored of a trial, and items in the owners' rows."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.configuration.settings import AgentSettings
from agent.data.source import DataSource
from fedloom.comparison.comparison import Comparison
from fedloom.comparison.criterion import criterion_of
from fedloom.comparison.measuring import measuring
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method, MethodKind
from fedloom.comparison.running.trial import Trial
from fedloom.comparison.spec import ComparisonSpec
from fedloom.comparison.tasks.evaluation import TaskEvaluation
from fedloom.comparison.tasks.plan import asked_tasks, plan_of
from fedloom.comparison.tasks.scores import TaskScore
from fedloom.comparison.tasks.section import TasksSection
from fedloom.errors import ComparisonError, EvaluationError
from fedloom.evaluation.harness.running import HarnessMissing
from fedloom.evaluation.sandbox.program import Kind, Result
from fedloom.evaluation.sandbox.sandbox import Sandbox
from shared.campaign.spec import CampaignSpec
from tests.support.judge_server import Said, judge_server
from tests.support.published import code as made_up
from tests.support.published.chat import write_benches
from tests.support.published.code import BODY, write
from tests.support.published.harness import gsm8k
from tests.support.scripted import campaign_body
from tests.support.stand_in_models import StandIn, saying
from tests.unit.evaluation.judging.bench_data import Talker

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
    plan = plan_of(section, DataSource(path=training, **columns), run_untrusted_code=True)
    return asked_tasks(plan, criterion_of("loss"), None).table


def run(folder: Path, asked: TaskEvaluation, model: StandIn) -> list[TaskScore]:
    """As a comparison scores its base model."""
    trial = Trial(Method("base model", MethodKind.BASE), Hyperparameters(1.0), 1, folder / "trial", None)
    scorer: Any = SimpleNamespace(model=lambda _name, _adapter: model)
    return trial.run(scorer, {}, {"evaluation": asked}, threading.Event(), lambda _: None).tasks["evaluation"].scores


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
    monkeypatch.setattr(Sandbox, "run", lambda _self, programs, _on_result: sandbox(programs))
    model = saying(BODY)
    first = run(folder, evaluation(folder, "humaneval", "rows"), model)
    assert "the same command runs the programs again" in first[0].not_run
    assert [score.value for score in first if score.task == "humaneval"] == [None]
    n_asked = len(model.asked)

    second = run(folder, evaluation(folder, "humaneval", "rows"), model)
    assert [score.value for score in second if score.task == "humaneval"] == [1.0]
    assert [score for score in first if score.task == "rows"] == second[1:]
    assert (sandbox.n_runs, len(model.asked)) == (2, n_asked), "replies are stored"
    assert run(folder, evaluation(folder, "humaneval", "rows"), model) == second
    assert sandbox.n_runs == 2, "a number is stored"


def test_what_no_other_run_changes_is_stored(folder: Path) -> None:
    model = saying("To port 1.")
    first = run(folder, evaluation(folder, "rows", "humaneval_chat"), model)
    assert (first[-1].task, first[-1].value) == ("humaneval_chat", None)
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


def judged(folder: Path, url: str, model: str = "stub", **more: Any) -> TaskEvaluation:
    training = folder / "training.jsonl"
    training.write_text(json.dumps(ROWS[0]))
    judge = {"url": url, "model": model, **more}
    section = TasksSection.model_validate({"tasks": ["vicuna_bench"], "data": folder / "data", "judge": judge})
    return asked_tasks(plan_of(section, DataSource(path=training)), criterion_of("loss"), None).table


def test_another_judge_rates_anew(folder: Path) -> None:
    write_benches(folder / "data")
    with judge_server(lambda body, _n: Said("[[3]]" if body["model"] == "stub" else "[[9]]")) as judge:
        model = Talker()
        first = run(folder, judged(folder, judge.url), model)
        assert run(folder, judged(folder, judge.url), model) == first
        assert len(judge.asked) == 4
        other = run(folder, judged(folder, judge.url, "other"), model)
    assert [[score.value for score in each] for each in (first, other)] == [[3.0], [9.0]]
    assert len(model.asked) == 4, "answers are stored"
    assert judged(folder, judge.url).leaves.startswith("vicuna_bench: questions, reference answers and the answers")


def test_what_leaves_for_choosing_is_told_as_well_as_for_the_table(folder: Path) -> None:
    write_benches(folder / "data")
    judge = {"url": "http://127.0.0.1:9/v1", "model": "stub"}
    section = {"tasks": ["vicuna_bench"], "data": folder / "data", "judge": judge}
    spec = ComparisonSpec.model_validate(
        {"name": "x", "clients": 2, "choose": "vicuna_bench.rating", "evaluation": section}
    )
    training = folder / "training.jsonl"
    training.write_text(json.dumps(ROWS[0]))
    told = measuring(spec, DataSource(path=training), run_untrusted_code=False).doubts
    [choosing, table] = [each for each in told if "the judge stub at 127.0.0.1:9" in each]
    assert choosing.startswith("for each model that is tried: vicuna_bench: questions, reference answers")
    assert table.startswith("for each model of the table: vicuna_bench: questions, reference answers")


def test_what_a_judge_needs_is_told_before_anything_is_trained(folder: Path) -> None:
    write_benches(folder / "data")
    with pytest.raises(ComparisonError, match="evaluation, vicuna_bench: give --judge-url and --judge-model"):
        evaluation(folder, "vicuna_bench")
    with pytest.raises(EvaluationError, match="may have to read and write more than --judge-max-tokens 9"):
        judged(folder, "http://127.0.0.1:9/v1", max_tokens=9)


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


@pytest.mark.parametrize(
    ("evaluation", "is_noted"),
    [({"every": 2}, False), ({"tasks": ["fpb"]}, True), ({"stop": {"patience": 2}}, False)],
)
def test_what_of_the_campaigns_evaluation_does_not_count_is_noted(
    folder: Path,
    evaluation: dict[str, Any],
    is_noted: bool,
) -> None:
    for name in ("training", "validation", "test"):
        rows = [{"prompt": f"What is {n} in {name}?", "completion": str(n)} for n in range(4)]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    files = {"validation": folder / "validation.jsonl", "test": folder / "test.jsonl"}
    spec = ComparisonSpec.model_validate({"name": "notes", "clients": 2, **files})
    settings = AgentSettings.model_validate({"data": {"notes": {"path": folder / "training.jsonl"}}})
    campaign = CampaignSpec.model_validate(campaign_body(evaluation=evaluation))
    compared = Comparison(spec, campaign, settings, ["fedavg"], [0], folder / "out")
    assert any("the campaign's own benchmarks are skipped" in note for note in compared.notes) == is_noted
