"""A judge that is slow, down, over quota or talks nonsense: what is asked again, and what is said when it gives up."""

import socket
import time
from pathlib import Path

import pytest

from fedloom.evaluation.judging.client import REPLY_BYTES, JudgeFailed, Patience
from fedloom.evaluation.judging.judge import Judge
from fedloom.evaluation.judging.open_judge import OpenJudge
from fedloom.evaluation.judging.reply import Judgement
from tests.support.judge_server import Said, judge_server
from tests.unit.evaluation.judging.asking import ask, first_then, questions
from tests.unit.evaluation.judging.bench_data import judge_at


@pytest.mark.parametrize(
    "bad",
    [
        Said(status=429),
        Said(status=429, headers={"Retry-After": "0"}),
        Said(status=500),
        Said(status=503, body=b"<html>"),
        Said(hangs_up=True),
        Said(body=b'{"choices": [{"mess'),
        Said(body=b""),
        Said(body=b"[]"),
        Said(body=b'{"choices": {}}'),
        Said(body=b'{"choices": [7]}'),
        Said(body=b'{"choices": [{"message": {"content": 7}}]}'),
        Said(body=b"\xff\xfe" + b"[" * 100_000),
        Said(body=b" " * (REPLY_BYTES + 1)),
    ],
)
def test_what_may_pass_is_asked_again(tmp_path: Path, bad: Said) -> None:
    with judge_server(first_then(bad)) as judge:
        assert ask(judge, tmp_path) == ["Good. Rating: [[7]]"]
    assert len(judge.asked) == 2


def test_it_waits_as_long_as_the_server_says(tmp_path: Path) -> None:
    began = time.monotonic()
    with judge_server(first_then(Said(status=429, headers={"Retry-After": "1"}))) as judge:
        ask(judge, tmp_path)
    assert 1.0 <= time.monotonic() - began < 3


def test_it_does_not_wait_for_an_hour(tmp_path: Path) -> None:
    with (
        judge_server(lambda *_: Said(status=429, headers={"Retry-After": "3600"})) as judge,
        pytest.raises(JudgeFailed, match="429 Too Many Requests, and asks to wait for 3,600 s"),
    ):
        ask(judge, tmp_path)
    assert len(judge.asked) == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            Said(status=429, body=b'{"error": {"message": "over quota\\nnow"}}'),
            "429 Too Many Requests: over quota now, 3 times",
        ),
        (Said(status=502), "502 Bad Gateway, 3 times"),
        (Said(body=b'{"choices": []}'), "its reply has no message, 3 times"),
    ],
)
def test_it_gives_up_in_words(tmp_path: Path, said: Said, words: str) -> None:
    with judge_server(lambda *_: said) as judge, pytest.raises(JudgeFailed) as failed:
        ask(judge, tmp_path)
    assert str(failed.value) == f"the judge stub-judge at {judge.url[7:-3]}: {words}"
    assert len(judge.asked) == 3


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said(status=401), "it does not accept the key (401 Unauthorized): set FEDLOOM_JUDGE_KEY"),
        (Said(status=404, body=b'{"error": {"message": "no such model"}}'), "404 Not Found: no such model: either it"),
        (Said(status=301, headers={"Location": "http://elsewhere/"}), "it points to another address (301"),
        (Said(headers={"Content-Encoding": "gzip"}), "its reply is encoded (gzip), which nobody asked for"),
        (Said(status=402), "402 Payment Required"),
    ],
)
def test_what_will_not_pass_is_asked_once(tmp_path: Path, said: Said, words: str) -> None:
    with judge_server(lambda *_: said) as judge, pytest.raises(JudgeFailed) as failed:
        ask(judge, tmp_path)
    assert words in str(failed.value)
    assert len(judge.asked) == 1


def test_nobody_is_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(JudgeFailed, match="it cannot be reached: connection refused, 3 times"):
        OpenJudge(judge_at(url), tmp_path).ask(questions(1))


def test_a_judge_that_is_too_slow(tmp_path: Path) -> None:
    patience = Patience(attempts=2, pause_s=0.01, longest_pause_s=1, timeout_s=0.2)
    with (
        judge_server(lambda *_: Said(after_s=1.0)) as judge,
        pytest.raises(JudgeFailed, match="no answer in time, 2 times"),
    ):
        ask(judge, tmp_path, patience=patience)


def test_one_refused_request_of_many_is_told_and_many_are_a_failure(tmp_path: Path) -> None:
    refusal = Said(status=400, body=b'{"error": {"message": "too long"}}')
    one = lambda body, _n: refusal if "answer 7." in body["messages"][0]["content"] else Said()  # noqa: E731
    with judge_server(one) as judge:
        said = ask(judge, tmp_path / "one", 20)
    assert said[7] == "(400 Bad Request: too long)"
    assert len(judge.asked) == 20
    with (
        judge_server(lambda *_: refusal) as judge,
        pytest.raises(JudgeFailed, match="refused 2 of 20 requests: 400 Bad"),
    ):
        ask(judge, tmp_path / "all", 20)
    assert len(judge.asked) < 10


def test_a_judge_that_refuses_to_speak_says_nothing_that_rates(tmp_path: Path) -> None:
    silent = b'{"choices": [{"message": {"content": null}}], "usage": "free"}'
    with judge_server(lambda *_: Said(body=silent)) as judge:
        [said] = OpenJudge(judge_at(judge.url), tmp_path).ask(questions(1))
    assert isinstance(said, Judgement)
    assert (said.text, said.model, said.cost.tokens_out) == ("", "", 20)


def test_a_few_at_once(tmp_path: Path) -> None:
    with judge_server(lambda *_: Said(after_s=0.05)) as judge:
        ask(judge, tmp_path, 16)
    assert judge.most_at_once == 4


def test_in_a_notebook_a_loop_runs_already(tmp_path: Path) -> None:
    import asyncio

    async def cell(judge: Judge) -> int:
        return len(OpenJudge(judge, tmp_path).ask(questions(2)))

    with judge_server() as server:
        assert asyncio.run(cell(judge_at(server.url))) == 2
