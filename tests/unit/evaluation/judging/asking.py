"""Questions to a judge on loopback."""

from pathlib import Path
from typing import Any

from fedloom.evaluation.judging.open_judge import OpenJudge
from fedloom.evaluation.judging.question import Question
from fedloom.evaluation.judging.reply import Judgement
from tests.support.judge_server import JudgeServer, Said
from tests.unit.evaluation.judging.bench_data import judge_at


def questions(n: int, max_new_tokens: int = 20) -> list[Question]:
    return [
        Question([{"role": "user", "content": f"Rate answer {i}."}], 0.0, max_new_tokens, "t", str(i), 1, "single-v1")
        for i in range(n)
    ]


def ask(judge: JudgeServer, folder: Path, n: int = 1, **how: Any) -> list[str]:
    """What the judge said; a refusal in brackets."""
    found = OpenJudge(judge_at(judge.url, **how), folder).ask(questions(n))
    return [each.text if isinstance(each, Judgement) else f"({each})" for each in found]


def first_then(*bad: Said) -> Any:
    """A script that replies badly at first."""
    return lambda _body, n: bad[n - 1] if n <= len(bad) else Said()


def everything_in(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


def kept(folder: Path) -> list[str]:
    return [line for path in (folder / "judgements").iterdir() for line in path.read_text().splitlines() if line]
