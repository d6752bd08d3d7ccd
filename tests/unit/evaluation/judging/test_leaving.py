"""What leaves this machine is said, and what it may cost, before a model is loaded."""

from pathlib import Path

import pytest

import fedloom
from fedloom.cli.evaluation.live import Lines
from fedloom.errors import EvaluationError
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.judging.judge import judge_of
from fedloom.evaluation.running.leaving import what_leaves
from fedloom.evaluation.running.plan import Plan, Progress
from fedloom.evaluation.running.ready import prepare
from fedloom.evaluation.running.run import before_run
from tests.support.published.chat import write_benches


def plan_of(folder: Path, url: str = "https://judge.example/v1", most: int | None = None) -> Plan:
    tasks = ["vicuna_bench", "vicuna_bench_pairs"]
    return planned(None, tasks, data=write_benches(folder), judge=judge_of(url, "m", most))


def leaves(plan: Plan, n_models: int = 2) -> str:
    return what_leaves(plan.judge, prepare(plan, n_models), n_models)


def test_it_is_said_what_goes_where_and_what_it_may_cost(tmp_path: Path) -> None:
    said = leaves(plan_of(tmp_path))
    assert said.startswith(
        "vicuna_bench, vicuna_bench_pairs: questions, reference answers and the answers of each model leave this "
        "machine for the judge m at judge.example; at most 16 requests with "
    )
    # 4 questions by 2 models, and 4 pairs in both orders; answers have 2,048 tokens of 4 bytes at most
    n_tokens = 8 * 2048 * 4 // 3 + 8 * 2 * 2048 * 4 // 3
    found = int(said.partition("requests with ")[2].partition(" tokens")[0].replace(",", ""))
    assert n_tokens < found < n_tokens + 16 * 40
    assert said.endswith("32,768 tokens of replies, " + f"{found + 32768:,} together, of --judge-max-tokens 1,000,000")


def test_one_model_has_no_pairs_and_costs_less(tmp_path: Path) -> None:
    said = leaves(plan_of(tmp_path), 1)
    assert said.startswith("vicuna_bench: questions")
    assert "at most 4 requests" in said


def test_others_on_the_way_and_this_machine(tmp_path: Path) -> None:
    assert "judge.example, over plain http://, which others on the way can read;" in leaves(
        plan_of(tmp_path, "http://judge.example/v1")
    )
    said = leaves(plan_of(tmp_path, "http://127.0.0.1:8000/v1"))
    assert "go to the judge m at 127.0.0.1:8000;" in said
    assert "plain http" not in said


def test_too_much_is_refused_in_numbers(tmp_path: Path) -> None:
    with pytest.raises(
        EvaluationError, match=r"more than --judge-max-tokens 1,000: at most 16 requests .*Nothing was sent"
    ):
        leaves(plan_of(tmp_path, most=1000))


def test_without_a_judge_nothing_leaves(tmp_path: Path) -> None:
    plan = planned(None, ["vicuna_bench"], data=write_benches(tmp_path))
    [ready] = prepare(plan)
    assert ready.facts.not_run == "give --judge-url and --judge-model: a judge rates the answers"
    assert what_leaves(None, [ready], 1) == ""


def test_it_is_the_first_line_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(tmp_path)
    ready = prepare(plan, 2)
    Lines().show(Progress("", "", 0, 0, before_run(plan, ready, []), leaves=what_leaves(plan.judge, ready, 2)))
    assert capsys.readouterr().err.startswith("vicuna_bench, vicuna_bench_pairs: questions, reference answers")


@pytest.mark.deep
@pytest.mark.train
def test_from_python_it_is_a_warning_where_nobody_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    judge = {"judge_url": "http://127.0.0.1:9/v1", "judge_model": "m"}
    data = write_benches(tmp_path)
    with pytest.raises(Exception, match="no-such-model"):
        fedloom.evaluate(base="./no-such-model", tasks=["vicuna_bench"], data=data, out=tmp_path / "out", **judge)
    assert "vicuna_bench: questions, reference answers and the answers of each model go to the judge m" in caplog.text
