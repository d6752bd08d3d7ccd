"""Rows of each file format, and errors that name the place but never quote the data."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.data.reading import read_rows
from agent.data.rows import Comparison, Row
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find
from shared.wire.tasks.leases import FailureKind

pytestmark = pytest.mark.train

GOOD = '{"prompt": "p", "completion": "c"}\n'


def refusal(path: Path, kind: str = "sft", **columns: Any) -> str:
    with pytest.raises(TaskFailed) as caught:
        read_rows(DataSource(path=path, **columns), find(kind))
    assert caught.value.failure.kind == FailureKind.DATA
    return caught.value.failure.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"q": "one", "more": "two", "a": "three"}\n\n{"q": "four", "a": "five"}\n'),
        ("a.json", '[{"q": "one", "more": "two", "a": "three"}, {"q": "four", "more": null, "a": "five"}]'),
        ("a.csv", "q,more,a\none,two,three\nfour,,five\n"),
        ("a.CSV", "\ufeffq,more,a\r\none,two,three\r\nfour,,five\r\n"),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    rows = read_rows(DataSource(path=path, prompt="q", input="more", completion="a"), find("sft"))
    assert rows.rows == [Row("one", "two", "three"), Row("four", "", "five")]


def test_csv_cells_may_hold_lines_and_be_long(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion\n"a\nb","' + "x" * 200_000 + '"\n')
    assert read_rows(DataSource(path=path), find("sft")).rows == [Row("a\nb", "", "x" * 200_000)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", "", "no rows"),
        ("a.json", "", "no rows"),
        ("a.json", "[]", "no rows"),
        ("a.csv", "", "no rows"),
        ("a.csv", "prompt,completion\n", "no rows"),
        ("a.jsonl", GOOD + "\n" + '{"prompt": "SECRET"\n', "line 3 is not JSON"),
        ("a.jsonl", GOOD + '["SECRET"]\n', "line 2 is not a JSON object"),
        ("a.json", '[\n{"prompt": "SECRET",}\n]', "line 2 is not JSON"),
        ("a.json", '{"prompt": "SECRET"}', "not a list"),
        ("a.json", '["SECRET"]', "row 1 is not a JSON object"),
        ("a.jsonl", GOOD + '{"prompt": "SECRET", "answer": "x"}\n', "line 2 has no column 'completion' (completion)"),
        ("a.jsonl", GOOD + '{"prompt": 3, "completion": "SECRET"}\n', "line 2: the column 'prompt' (prompt) holds a n"),
        ("a.jsonl", GOOD + '{"prompt": "SECRET", "completion": [3]}\n', "(completion) holds a list of values"),
        ("a.csv", "prompt,completion\na,b\nSECRET,b,c\n", "line 3 has 3 cells, but the header has 2"),
        ("a.csv", "SECRET,answer\nb,c\n", "line 2 has no column 'prompt' (prompt); if the first line is a record"),
        (
            "a.jsonl",
            '{"prompt": {"SECRET": 1}, "completion": "c"}',
            "neither 'role' and 'content' nor 'from' and 'value'",
        ),
        ("a.jsonl", f'{{"prompt": "SECRET", "n": {"1" * 5000}}}', "line 1 is not JSON (a number with too many digits)"),
        ("a.json", f'[{{"prompt": "SECRET", "n": {"1" * 5000}}}]', "is not JSON (a number with too many digits)"),
        ("a.docx", "SECRET", "unknown file type"),
    ],
)
def test_errors_name_the_place_and_never_the_content(tmp_path: Path, name: str, text: str, expected: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    message = refusal(path)
    assert expected in message
    assert name not in message
    assert "SECRET" not in message


def test_preferences_are_pairs_by_columns_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("q,more,good,bad\none,two,three,four\nfive,,six,seven\n")
    source = DataSource(path=path, prompt="q", input="more", chosen="good", rejected="bad")
    assert read_rows(source, find("dpo")).rows == [
        Comparison("one", "two", ("three", "four")),
        Comparison("five", "", ("six", "seven")),
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            '{"prompt": "SECRET", "completion": "c"}',
            "line 2 has no column 'good' (chosen); `fedloom agent check-data` shows the names",
        ),
        ('{"prompt": "SECRET", "good": "c"}', "line 2 has no column 'rejected' (rejected)"),
        ('{"good": "SECRET", "rejected": "c"}', "line 2 has no column 'prompt' (prompt)"),
        ('{"prompt": "p", "good": "SECRET", "rejected": ["x"]}', "line 2: the column 'rejected' (rejected) holds a li"),
        (
            '{"prompt": "p", "good": 3, "rejected": "SECRET"}',
            "line 2: the column 'good' (chosen) holds a number, not text",
        ),
    ],
)
def test_errors_in_a_pair_name_the_place_column_and_role(tmp_path: Path, row: str, expected: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "p", "good": "g", "rejected": "b"}\n' + row + "\n")
    message = refusal(path, "dpo", chosen="good")
    assert message.startswith(f"the data: {expected}")
    assert "SECRET" not in message


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD.encode() + b'{"prompt": "\xff", "completion": "c"}\n')
    assert "not UTF-8" in refusal(path)


def test_an_input_column_that_no_row_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD)
    assert "no row has the column 'extra' (input); `fedloom agent check-data`" in refusal(path, input="extra")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "gone.jsonl")


def test_deep_nesting_is_refused_not_crashed_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    assert "line 1" in refusal(path)
    path = tmp_path / "b.json"
    path.write_text(json.dumps([]).join(["[" * 100_000, "]" * 100_000]))
    assert "not JSON" in refusal(path) or "row 1" in refusal(path)
