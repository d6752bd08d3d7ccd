"""The numbers of an owner's report, by hand."""

import math
from pathlib import Path

import pytest

from agent.orders.measure import MeasuredRow
from fedloom.cli.agent.report.numbers import exact_difference, loss_difference, share_of
from fedloom.cli.agent.report.own_metric import read_metric
from fedloom.errors import InvalidOption
from shared.metrics import Weight


def row(place: int, expected: str, answer: str | None, loss: float | None = 1.0, n_tokens: int = 1) -> MeasuredRow:
    return MeasuredRow(
        place=place, question=f"q{place}", expected=expected, answer=answer, loss=loss, n_tokens=n_tokens
    )


def test_exact_answers_are_counted_without_the_space_around_them_among_those_answered() -> None:
    rows = [row(0, "yes", " yes\n"), row(1, "no", "No"), row(2, "a b", "a b"), row(3, "long", None)]
    share = share_of(rows)
    assert share is not None
    assert (share.n_right, share.n) == (2, 3)
    assert (share.confidence.low, share.confidence.high) == pytest.approx((0.2077, 0.9385), abs=1e-4), "Wilson"
    assert share_of([row(0, "yes", None)]) is None


def test_the_difference_of_exact_answers_is_paired() -> None:
    value = exact_difference([True, False, False, False], [False, True, True, False])
    assert value is not None
    assert value.value == 0.25
    lost, won = 2 / 6, 3 / 6
    half = 1.959964 * math.sqrt((lost + won - (won - lost) ** 2) / 6)
    assert value.confidence is not None
    assert (value.confidence.low, value.confidence.high) == pytest.approx((won - lost - half, won - lost + half))
    assert exact_difference([], []) is None


def test_the_difference_in_loss_weighs_rows_as_the_mean_loss_does() -> None:
    one = [row(0, "", "", 2.0, 1), row(1, "", "", 1.0, 3), row(2, "", "", 3.0, 4)]
    other = [row(0, "", "", 1.0, 1), row(1, "", "", 1.5, 3), row(2, "", "", 2.0, 4)]
    by_tokens = loss_difference(one, other, Weight.TOKENS)
    by_rows = loss_difference(one, other, Weight.ROWS)
    assert by_tokens is not None
    assert by_rows is not None
    assert by_tokens.value == pytest.approx((-1.0 + 3 * 0.5 - 4 * 1.0) / 8)
    assert by_rows.value == pytest.approx((-1.0 + 0.5 - 1.0) / 3)
    assert by_rows.confidence is not None
    assert by_rows.confidence.low < by_rows.value < by_rows.confidence.high
    assert loss_difference([row(0, "", "", None)], [row(0, "", "")], Weight.ROWS) is None


def test_an_own_metric_is_a_function_of_question_expected_and_answer(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def overlap(question, expected, answer):\n"
        "    assert question.startswith('q')\n"
        "    return len(set(expected.split()) & set(answer.split())) / len(expected.split())\n"
        "def wrong(question, expected, answer):\n    raise ValueError(expected)\n"
        "def endless(question, expected, answer):\n    return float('inf')\n"
        "number = 3\n"
    )
    metric = read_metric(f"{file}:overlap")
    assert metric.values([row(0, "a b c d", "b d"), row(1, "x", "y"), row(2, "x", None)]) == [0.5, 0.0]
    with pytest.raises(InvalidOption, match="wrong raised ValueError at held-out row 5") as refused:
        read_metric(f"{file}:wrong").values([row(4, "secret text", "y")])
    assert "secret" not in str(refused.value)
    with pytest.raises(InvalidOption, match="endless gave inf at held-out row 1, and not a number up to"):
        read_metric(f"{file}:endless").values([row(0, "x", "y")])


ODD = """
from __future__ import annotations
import os, sys
from dataclasses import dataclass
print("imported")
@dataclass
class Held:
    text: str
def none(question, expected, answer): return None
def text(question, expected, answer): return "0.5"
def large(question, expected, answer): return -1.7e308
def whole(question, expected, answer): return 10 ** 400
def leaves(question, expected, answer): sys.exit(0)
def wanders(question, expected, answer):
    print(Held(expected))
    os.chdir("/")
    return True
"""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none", "none gave no number but NoneType at held-out row 3"),
        ("text", "text gave str at held-out row 3, and not a number"),
        ("large", "large gave -1.7e.308 at held-out row 3, and not a number up to 1e.100"),
        ("whole", "whole gave no number but int at held-out row 3"),
        ("leaves", "leaves raised SystemExit at held-out row 3"),
    ],
)
def test_a_metric_that_gives_no_number_is_told(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    with pytest.raises(InvalidOption, match=why):
        read_metric(f"{tmp_path / 'odd.py'}:{name}").values([row(2, "secret", "y")])


def test_a_metric_neither_prints_into_the_report_nor_moves_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd.py").write_text(ODD)
    assert read_metric("odd.py:wanders").values([row(2, "words", "y")]) == [1.0]
    assert Path.cwd() == tmp_path
    printed = capsys.readouterr()
    assert (printed.out, "words" in printed.err) == ("", True)


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("leaving.py:score", "cannot be imported: it called sys.exit"),
        ("mine.py", "as FILE.py:FUNCTION"),
        ("mine.txt:score", "as FILE.py:FUNCTION"),
        ("nowhere.py:score", "there is no file"),
        ("broken.py:score", "cannot be imported: ZeroDivisionError"),
        ("empty.py:score", "has no function score"),
    ],
)
def test_a_metric_that_cannot_be_read_is_told(
    named: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit()\n")
    with pytest.raises(InvalidOption, match=why):
        read_metric(named)
