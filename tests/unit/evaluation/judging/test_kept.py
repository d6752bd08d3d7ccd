"""Every reply is kept, for its owner alone and without the key; a run that was killed goes on."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fedloom.evaluation.judging.client import JudgeFailed
from fedloom.evaluation.judging.open_judge import OpenJudge
from tests.support.judge_server import Said, judge_server
from tests.support.processes import ROOT, wait_until
from tests.unit.evaluation.judging.asking import ask, everything_in, first_then, kept, questions
from tests.unit.evaluation.judging.bench_data import judge_at

KEY = "sk-a-very-secret-key"


def test_nothing_is_asked_twice_and_another_judge_has_its_own_replies(tmp_path: Path) -> None:
    with judge_server() as judge:
        ask(judge, tmp_path, 4)
        ask(judge, tmp_path, 6)
        assert len(judge.asked) == 6
        ask(judge, tmp_path, 6, model="another")
        assert len(judge.asked) == 12
    files = list((tmp_path / "judgements").iterdir())
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines() if line]
    assert {line["judge"].split(" at ")[0] for line in lines} == {"stub-judge", "another"}
    assert all("[[7]]" in line["raw"] and line["task"] == "t" for line in lines)


def test_a_torn_line_loses_one_reply(tmp_path: Path) -> None:
    with judge_server() as judge:
        ask(judge, tmp_path, 4)
        [path] = (tmp_path / "judgements").iterdir()
        path.write_bytes(path.read_bytes()[:-9])
        assert ask(judge, tmp_path, 4) == ["Good. Rating: [[7]]"] * 4
        assert len(judge.asked) == 5


def test_unusable_replies_are_kept_too(tmp_path: Path) -> None:
    with judge_server(first_then(Said(body=b"half a rep"))) as judge:
        ask(judge, tmp_path)
    [path] = (tmp_path / "judgements").iterdir()
    [bad, good] = [json.loads(line) for line in path.read_text().splitlines() if line]
    assert (bad["problem"], bad["raw"]) == ("its reply is no JSON, or breaks off", "half a rep")
    assert "judgement" in good


def test_the_key_is_sent_and_is_nowhere_else(tmp_path: Path) -> None:
    echo = lambda _body, n: Said(f"you sent {KEY} [[3]]", status=200 if n > 1 else 500, body=None)  # noqa: E731
    with judge_server(echo) as judge:
        assert ask(judge, tmp_path, key=KEY) == ["you sent [key] [[3]]"]
        assert {headers["Authorization"] for headers in judge.headers} == {f"Bearer {KEY}"}
    refusal = json.dumps({"error": {"message": f"{KEY} is over quota"}}).encode()
    with judge_server(lambda *_: Said(status=429, body=refusal)) as judge, pytest.raises(JudgeFailed) as failed:
        ask(judge, tmp_path, 2, key=KEY)
    assert "[key] is over quota" in str(failed.value)
    assert KEY not in repr(failed.value) + repr(judge_at(judge.url, key=KEY)) + everything_in(tmp_path)


ODD_KEY = 'Ab+cd/ef=="q"/key'


@pytest.mark.parametrize(
    ("character", "escaped"), [("/", "\\/"), ("+", "\\u002B"), ("=", "\\u003d"), ("/", "\\\\/"), ("A", "\\u0041")]
)
def test_a_key_that_comes_back_with_escapes_is_nowhere(tmp_path: Path, character: str, escaped: str) -> None:
    message = {"choices": [{"message": {"content": f"you sent {ODD_KEY} [[3]]"}}], "model": ODD_KEY}
    reply = json.dumps(message).replace(character, escaped).encode()
    with judge_server(lambda *_: Said(body=reply)) as judge:
        assert ask(judge, tmp_path, key=ODD_KEY) == ["you sent [key] [[3]]"]
    [line] = map(json.loads, kept(tmp_path))
    assert "cd" not in line["raw"] + line["judgement"]["model"]


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_status_lines_and_headers_are_said_without_the_key_and_as_one_line(tmp_path: Path, status: int) -> None:
    def said(reply: Said) -> str:
        with judge_server(lambda *_: reply) as judge, pytest.raises(JudgeFailed) as failed:
            ask(judge, tmp_path, key=KEY)
        return str(failed.value)

    assert rf"{status} [key] \x1b[31mred" in said(Said(status=status, reason=f"{KEY} \x1b[31mred"))
    assert "encoded ([key])" in said(Said(headers={"Content-Encoding": KEY}))


@pytest.mark.parametrize(
    ("found", "edited"),
    [
        ('"text": "Good. Rating: [[7]]"', '"text": 5'),
        ('"tokens_in": 100', '"tokens_in": "many"'),
        ('"model": "', '"model": 1, "was": "'),
        ('"request": "', '"request": ["a"], "was": "'),
        ('{"judge": ', "[" * 100_000),
    ],
)
def test_a_line_that_somebody_edited_is_asked_again(tmp_path: Path, found: str, edited: str) -> None:
    with judge_server() as judge:
        ask(judge, tmp_path, 2)
        [path] = (tmp_path / "judgements").iterdir()
        text = path.read_text()
        assert found in text
        path.write_text(text.replace(found, edited, 1))
        assert ask(judge, tmp_path, 2) == ["Good. Rating: [[7]]"] * 2
        assert len(judge.asked) == 3


KILLED = """
import sys
from pathlib import Path
from tests.unit.evaluation.judging.asking import questions
from tests.unit.evaluation.judging.bench_data import judge_at
from fedloom.evaluation.judging.open_judge import OpenJudge
OpenJudge(judge_at(sys.argv[1]), Path(sys.argv[2])).ask(questions(40))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_killed_it_loses_what_is_in_flight_alone(tmp_path: Path, end: signal.Signals) -> None:
    gate = threading.Event()

    def script(_body: dict[str, Any], n: int) -> Said:
        if n > 12:
            gate.wait(20)
        return Said()

    with judge_server(script) as judge:
        command = [sys.executable, "-c", KILLED, judge.url, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        try:
            wait_until(lambda: len(judge.asked) >= 16, "requests in flight", 30)
            began = time.monotonic()
            process.send_signal(end)
            process.communicate(timeout=15)
            assert time.monotonic() - began < 5, "Ctrl-C waits for nobody"
        finally:
            process.kill()
            gate.set()
        assert len(kept(tmp_path)) == 12
        before = len(judge.asked)
        assert ask(judge, tmp_path, 40) == ["Good. Rating: [[7]]"] * 40
        assert len(judge.asked) == before + 28


def test_a_full_disk_ends_it(tmp_path: Path) -> None:
    (tmp_path / "judgements").mkdir()
    with judge_server() as judge:
        opened = OpenJudge(judge_at(judge.url), tmp_path)
        (tmp_path / "judgements").chmod(0o700)
        opened._store._path = Path("/dev/full")
        with pytest.raises(OSError, match="No space left"):
            opened.ask(questions(8))
    assert not opened.judge.budget.is_in_use
