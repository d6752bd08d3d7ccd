"""``fedloom evaluate`` with a judge on loopback: pairs of real models, killed and gone on, and the key nowhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.command.conftest import Evaluation, Start, replies_in
from tests.support.judge_server import Said, judge_server
from tests.support.processes import ROOT
from tests.support.published.chat import write_benches
from tests.support.results import read_results
from tests.support.suite.tiers import deep, soak

pytestmark = pytest.mark.train

QUICKSTART = ROOT / "examples" / "quickstart" / "model"
KEY = "sk-a-very-secret-key"


@pytest.mark.parametrize("end", [deep(Evaluation.interrupt), soak(Evaluation.kill)])
def test_it_is_rated_and_compared_and_goes_on(
    start: Start, new_adapter: Callable[..., Path], tmp_path: Path, end: Callable[[Evaluation], object]
) -> None:
    adapter, out = new_adapter(QUICKSTART, "words"), tmp_path / "out"
    is_slow = True

    def script(_body: dict[str, Any], n: int) -> Said:
        return Said("[[6]] [[B]]", after_s=2.0 if is_slow and n > 3 else 0.0)

    with judge_server(script) as judge:
        options = ("--base", QUICKSTART, "--data", write_benches(tmp_path / "data"), "--limit", 2, "--out", out)
        named = ("--judge-url", judge.url, "--judge-model", "stub")
        tasks = ("--tasks", "mt_bench,mt_bench_pairs,vicuna_bench")
        running = start(adapter, *options, *named, *tasks, FEDLOOM_JUDGE_KEY=KEY)
        running.wait_until(lambda: len(judge.asked) >= 5, "requests in flight")
        end(running)
        is_slow = False
        replies = replies_in(out)
        again = start(adapter, *options, *named, *tasks, FEDLOOM_JUDGE_KEY=KEY)
        assert again.ended() == 0, again.said
        n_different = len({str(body) for body in judge.asked})  # answers of two small models may be alike
        assert n_different >= 8
        assert len(judge.asked) <= n_different + 4, "what was in flight alone is asked again"
        assert set(replies) <= set(replies_in(out))
        assert len(set(replies_in(out))) == len(replies_in(out))
        assert {headers["Authorization"] for headers in judge.headers} == {f"Bearer {KEY}"}
    found = {task.name: task for task in read_results(out).tasks}
    assert [model.numbers[0].value for model in found["mt_bench"].models] == [6.0, 6.0]
    assert [model.numbers[0].value for model in found["mt_bench_pairs"].models] == [None, 0.5]
    assert all(task.judge is not None for task in found.values())
    said = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in text for text in said)
    assert again.said.splitlines()[0].startswith("mt_bench, mt_bench_pairs, vicuna_bench: questions, reference answers")
    assert "rated by stub (stub-0613) at 127.0.0.1:" in again.said
