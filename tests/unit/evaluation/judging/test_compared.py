"""Pairs in both orders: wins, ties and losses against values by hand."""

import re
from pathlib import Path
from typing import Any

import pytest

from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.results import ModelResult, Results
from fedloom.evaluation.running.run import run
from tests.support.judge_server import JudgeServer, Said, judge_server
from tests.support.published.chat import write_benches
from tests.unit.evaluation.judging.bench_data import Talker, judge_at


def evaluated(judge: JudgeServer, folder: Path, *models: Talker, tasks: str = "mt_bench_pairs", n: int = 4) -> Results:
    plan = planned(None, [tasks], data=write_benches(folder / "data", n), judge=judge_at(judge.url))
    return run(plan, models, folder / "out")


def prefers(names: dict[str, str]) -> Any:
    """A script that prefers, by the last question, the model of a name; FIRST for whichever is first, TIE for none."""

    def script(body: dict[str, Any], _n: int) -> Said:
        prompt = body["messages"][1]["content"]
        last = re.findall(r"question (\d+\.\d)", prompt)[-1]
        side_of = re.findall(r"\[A1?\](\w+) answers", prompt)[0]
        wanted = names.get(last, "TIE")
        if wanted in ("TIE", "MUTE"):
            return Said("[[C]]" if wanted == "TIE" else "I cannot say.")
        return Said("[[A]]" if wanted in ("FIRST", side_of) else "[[B]]")

    return script


def values(model: ModelResult) -> dict[str, float | None]:
    return {number.metric.name: number.value for number in model.numbers}


def test_wins_ties_and_losses(tmp_path: Path) -> None:
    names = {"1.1": "notes", "1.2": "notes", "2.1": "base", "2.2": "FIRST", "3.1": "notes", "4.2": "base"}
    with judge_server(prefers(names)) as judge:
        results = evaluated(judge, tmp_path, Talker(), Talker("notes", "b" * 64))
    base, notes = results.tasks[0].models
    assert len(judge.asked) == 4 * 2 * 2
    assert values(notes) == {
        "win": pytest.approx(3 / 8),
        "tie": pytest.approx(3 / 8),
        "loss": pytest.approx(2 / 8),
        "win_rate": pytest.approx((3 + 1.5) / 8),
        "win_rate_1": pytest.approx((1 + 0 + 1 + 0.5) / 4),
        "win_rate_2": pytest.approx((1 + 0.5 + 0.5 + 0) / 4),
    }
    assert notes.numbers[0].confidence is not None
    assert set(values(base).values()) == {None}
    assert base.numbers[0].not_run == "it is what the others are compared with"
    assert notes.differences == []
    assert results.tasks[0].judge is not None


def test_both_orders_are_asked_with_the_references_of_their_turn(tmp_path: Path) -> None:
    with judge_server(prefers({})) as judge:
        evaluated(judge, tmp_path, Talker(), Talker("notes", "b" * 64), tasks="vicuna_bench_pairs")
    base, notes = "base answers question 2.1", "notes answers question 2.1"
    assert f"[Q]question 2.1[R]reference 2.1[A]{base}[B]{notes}" in judge.prompts
    assert f"[Q]question 2.1[R]reference 2.1[A]{notes}[B]{base}" in judge.prompts


def test_without_a_verdict_in_one_order_the_pair_does_not_count(tmp_path: Path) -> None:
    with judge_server(prefers({"1.1": "MUTE", "2.1": "notes"})) as judge:
        results = evaluated(judge, tmp_path, Talker(), Talker("notes", "b" * 64), tasks="vicuna_bench_pairs", n=40)
    notes = results.tasks[0].models[1]
    assert notes.numbers[0].n == 39
    assert notes.numbers[0].value == pytest.approx((1 + 38 * 0.5) / 39)
    assert notes.numbers[0].problems == {"the judge named no winner": 1}


def test_answers_of_the_single_ratings_are_not_asked_again(tmp_path: Path) -> None:
    models = Talker(), Talker("notes", "b" * 64)
    with judge_server(lambda _body, _n: Said("[[5]] [[A]]")) as judge:
        data = write_benches(tmp_path / "data")
        plan = planned(None, ["mt_bench", "mt_bench_pairs"], data=data, judge=judge_at(judge.url))
        run(plan, models, tmp_path / "out")
    assert [len(model.asked) for model in models] == [8, 8]


def test_one_model_alone_has_no_pairs(tmp_path: Path) -> None:
    with judge_server() as judge:
        results = evaluated(judge, tmp_path, Talker())
    assert results.tasks[0].not_run == "it compares adapters with the base model: name an adapter's folder"
    assert judge.asked == []


def test_three_models_are_each_compared_with_the_first(tmp_path: Path) -> None:
    with judge_server(prefers({f"{n}.1": "notes" for n in range(1, 5)})) as judge:
        models = Talker(), Talker("notes", "b" * 64), Talker("letters", "c" * 64)
        results = evaluated(judge, tmp_path, *models, tasks="vicuna_bench_pairs")
    rates = [model.numbers[0].value for model in results.tasks[0].models]
    assert rates == [None, 1.0, 0.5]  # B whoever it is, where the script's favourite is not there
    assert len(judge.asked) == 16
