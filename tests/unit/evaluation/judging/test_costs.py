"""What a judge may cost holds before anything is sent, and while it is."""

from pathlib import Path

import pytest

from fedloom.evaluation.judging.budget import tokens_in
from fedloom.evaluation.judging.client import JudgeFailed
from fedloom.evaluation.judging.open_judge import OpenJudge
from tests.support.judge_server import Said, judge_server
from tests.unit.evaluation.judging.asking import ask, kept, questions
from tests.unit.evaluation.judging.bench_data import judge_at


def test_what_may_cost_too_much_is_not_sent(tmp_path: Path) -> None:
    most = 4 * (20 + tokens_in(len("Rate answer 0.")))
    with (
        judge_server() as judge,
        pytest.raises(JudgeFailed, match=f"of the {most - 1} tokens of --judge-max-tokens, 0 are"),
    ):
        ask(judge, tmp_path, 4, most=most - 1)
    assert judge.asked == []
    with judge_server(lambda *_: Said(usage={"prompt_tokens": 5, "completion_tokens": 5})) as judge:
        assert len(ask(judge, tmp_path, 4, most=most)) == 4


def test_the_cap_holds_where_replies_cost_more_than_was_estimated(tmp_path: Path) -> None:
    dear = {"prompt_tokens": 100, "completion_tokens": 400}
    with judge_server(lambda *_: Said(usage=dear)) as judge:
        opened = OpenJudge(judge_at(judge.url, most=1000), tmp_path)
        with pytest.raises(JudgeFailed, match="are spent, and too little is left"):
            opened.ask(questions(30))
        # requests in flight may have cost more than what was set aside for them; no new one was sent after that
        assert len(judge.asked) <= 5
        assert not opened.judge.budget.is_in_use
        with pytest.raises(JudgeFailed, match="too little is left"):
            ask(judge, tmp_path, 30, most=1000)
        assert len(judge.asked) <= 5
        before, stored = len(judge.asked), len(kept(tmp_path))
        ask(judge, tmp_path, 30, most=100_000)
        assert len(judge.asked) == before + 30 - stored


def test_replies_that_nobody_could_use_count(tmp_path: Path) -> None:
    most = 20 + tokens_in(len("Rate answer 0."))
    with (
        judge_server(lambda *_: Said(body=b"{}")) as judge,
        pytest.raises(JudgeFailed, match="nobody could use count too"),
    ):
        ask(judge, tmp_path, most=most)
    assert len(judge.asked) == 1
