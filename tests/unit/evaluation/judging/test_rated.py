"""Ratings of a whole run over a judge on loopback: what is asked, and the means by hand."""

import re
from pathlib import Path
from typing import Any

import pytest

from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.report.page import page
from fedloom.evaluation.results import Results
from fedloom.evaluation.running.run import run
from tests.support.judge_server import JudgeServer, Said, judge_server
from tests.support.published.chat import write_benches
from tests.support.results import read_results
from tests.unit.evaluation.judging.bench_data import Talker, judge_at


def evaluated(
    judge: JudgeServer, folder: Path, *models: Talker, tasks: str = "mt_bench", n: int = 4, **how: Any
) -> Results:
    data = write_benches(folder / "data", n)
    plan = planned(None, tasks.split(","), data=data, judge=judge_at(judge.url, **how))
    return run(plan, models or (Talker(),), folder / "out")


def rates(ratings: dict[str, str], otherwise: str = "[[5]]") -> Any:
    """A script that rates by the last question in a prompt."""

    def script(body: dict[str, Any], _n: int) -> Said:
        last = re.findall(r"question (\d+\.\d)", body["messages"][1]["content"])[-1]
        return Said(ratings.get(last, otherwise))

    return script


def test_what_the_judge_is_asked(tmp_path: Path) -> None:
    with judge_server() as judge:
        evaluated(judge, tmp_path)
    asked = {each["messages"][1]["content"]: each for each in judge.asked}
    a11, a12 = "base answers question 1.1", "base answers question 1.2"
    first = asked[f"[Q]question 1.1[A]{a11}"]
    assert first["messages"][0] == {"role": "system", "content": "You judge: single-v1"}
    assert (first["temperature"], first["max_tokens"], first["model"]) == (0.0, 2048, "stub-judge")
    assert f"[Q1]question 1.1[A1]{a11}[Q2]question 1.2[A2]{a12}" in asked
    assert "[Q]question 2.1[R]reference 2.1[A]base answers question 2.1" in asked
    assert any(
        text.startswith("[Q1]question 4.1[R1]reference 4.1[Q2]question 4.2[R2]reference 4.2[Q1]") for text in asked
    )
    assert len(judge.asked) == 8
    assert set(judge.paths) == {"/v1/chat/completions"}


def test_answers_are_decoded_by_category_and_the_second_turn_sees_the_first(tmp_path: Path) -> None:
    model = Talker()
    with judge_server() as judge:
        evaluated(judge, tmp_path, model)
    temperatures = {}
    for request in model.asked:
        temperatures.setdefault(re.findall(r"question (\d)", request.prompt)[0], set()).add(request.temperature)
    assert temperatures == {"1": {0.7}, "2": {0.0}, "3": {0.1}, "4": {0.0}}
    assert {request.max_new_tokens for request in model.asked} == {1024}
    [second] = [request.prompt for request in model.asked if "question 1.2" in request.prompt]
    assert "base answers question 1.1" in second


def test_vicuna_has_one_turn_of_its_own_temperatures(tmp_path: Path) -> None:
    model = Talker()
    with judge_server() as judge:
        results = evaluated(judge, tmp_path, model, tasks="vicuna_bench")
    assert {(request.temperature, request.max_new_tokens) for request in model.asked} == {(0.7, 2048)}
    assert {each["temperature"] for each in judge.asked} == {0.2}
    assert [number.metric.name for number in results.tasks[0].models[0].numbers] == ["rating"]
    assert results.tasks[0].models[0].numbers[0].value == 7.0


def test_the_mean_is_over_rated_judgements_and_not_over_turns(tmp_path: Path) -> None:
    ratings = {"1.1": "[[10]]", "1.2": "nothing", "2.1": "[[8]]", "2.2": "Rating: [2]"}
    with judge_server(rates(ratings, "[[4]]")) as judge:
        results = evaluated(judge, tmp_path, n=16)
    [rating, first, second] = results.tasks[0].models[0].numbers
    assert first.value == pytest.approx((10 + 8 + 14 * 4) / 16)
    assert second.value == pytest.approx((2 + 14 * 4) / 15)
    assert rating.value == pytest.approx((10 + 8 + 2 + 28 * 4) / 31)
    assert (first.n, second.n, rating.n) == (16, 15, 16)
    assert second.problems == {"the judge gave no rating": 1}
    assert rating.flags["turn 2 unrated"] == 1
    assert rating.groups is not None
    assert rating.groups.groups["writing"].value == pytest.approx((10 + 10 * 4) / 11)
    assert rating.confidence is not None
    assert rating.confidence.low < rating.value < rating.confidence.high


def test_the_judge_belongs_to_the_number_wherever_it_is(tmp_path: Path) -> None:
    with judge_server(rates({"1.1": "[[9]]", "3.2": "[[2]]"})) as judge:
        results = evaluated(judge, tmp_path)
    host = judge.url.removeprefix("http://").removesuffix("/v1")
    facts = read_results(tmp_path / "out").tasks[0].judge
    assert facts is not None
    assert (facts.model, facts.host, facts.served) == ("stub-judge", host, ["stub-judge-0613"])
    assert (facts.cost.calls, facts.cost.tokens_in, facts.cost.tokens_out) == (8, 800, 80)
    said = f"stub-judge (stub-judge-0613) at {host}, {facts.first[:10]}"
    assert str(facts) == said
    assert said in (tmp_path / "out" / "results.csv").read_text()
    shown = page(results)
    assert f"Rated by {said}" in shown
    assert "rating, 1 to 10 by category" in shown
    assert "<td>writing</td>" in shown


def test_ratings_of_1_alone_are_no_shares(tmp_path: Path) -> None:
    with judge_server(lambda _body, _n: Said("[[1]]")) as judge:
        results = evaluated(judge, tmp_path, Talker(), Talker("notes", "b" * 64), tasks="vicuna_bench")
    base, notes = results.tasks[0].models
    assert base.numbers[0].value == 1.0
    assert base.numbers[0].confidence is None
    assert base.numbers[0].groups is not None
    assert {group.confidence for group in base.numbers[0].groups.groups.values()} == {None}
    assert (notes.differences[0].value, notes.differences[0].p, notes.differences[0].confidence) == (0.0, None, None)


def test_braces_in_answers_stay_what_they_are(tmp_path: Path) -> None:
    model = Talker(wrap="{} {question} {0} {answer_b} {{x}} %s \\1")
    with judge_server() as judge:
        evaluated(judge, tmp_path, model, tasks="vicuna_bench")
    assert "[Q]question 1.1[A]base answers question 1.1 {question} {0} {answer_b} {{x}} %s \\1" in judge.prompts


def test_more_than_a_twentieth_unrated_is_no_number(tmp_path: Path) -> None:
    ratings = {"1.1": "[[0]]", "2.1": "[[11]]"}
    with judge_server(rates(ratings)) as judge:
        results = evaluated(judge, tmp_path, tasks="vicuna_bench", n=39)
        fine = evaluated(judge, tmp_path / "fine", tasks="vicuna_bench", n=40)
    assert results.tasks[0].not_run.startswith("the judge stub-judge at 127.0.0.1:")
    assert "gave no rating from 1 to 10 in 2 of 39 replies; above 5 % there is no number" in results.tasks[0].not_run
    assert results.tasks[0].is_void
    assert {number.value for number in results.tasks[0].models[0].numbers} == {None}
    assert fine.tasks[0].models[0].numbers[0].value == 5.0
    assert fine.tasks[0].models[0].numbers[0].n == 38


def test_a_model_without_a_template_is_not_run_and_nothing_is_sent(tmp_path: Path) -> None:
    from fedloom.evaluation.asking.models import NoChatTemplate

    class Bare(Talker):
        def chat_prompt(self, messages: Any) -> str:
            raise NoChatTemplate("the tokenizer has no chat template, which this task needs")

    with judge_server() as judge:
        results = evaluated(judge, tmp_path, Bare())
    assert "has no chat template" in results.tasks[0].not_run
    assert not results.tasks[0].is_void
    assert judge.asked == []


def test_an_answer_that_does_not_fit_is_no_rating(tmp_path: Path) -> None:
    from dataclasses import replace

    model = Talker()
    model.facts = replace(model.facts, n_positions=70)
    model.count_tokens = lambda texts: [3 if "answers" not in text else 40 for text in texts]  # type: ignore[method-assign]
    with judge_server() as judge:
        results = evaluated(judge, tmp_path, model)
    rating, first, second = results.tasks[0].models[0].numbers
    assert (rating.value, first.value, second.value) == (7.0, 7.0, None)
    assert second.not_run == "needs 105 positions, and the model has 70"
    assert len(judge.asked) == 4
