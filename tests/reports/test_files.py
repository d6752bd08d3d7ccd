"""Files of the owner: cells and lines that other readers change."""

from pathlib import Path

import pytest

from agent.data.reading import read_rows
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared import kinds

SFT = kinds.find("sft")
NO_VALUES = ["NA", "N/A", "n/a", "null", "NULL", "None", "nan", "NaN", "-", "#N/A"]
NOT_NUMBERS = [
    "007",
    "1e5",
    "0x1F",
    "TRUE",
    "1,000",
    "2020-01-02",
    "2020-01-02 03:04:05",
    "12:30",
    "9" * 40,
    "Infinity",
]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_a_cell_is_text_whatever_it_looks_like(tmp_path: Path, name: str) -> None:
    tab = "\t" if name.endswith("tsv") else ","
    cells = [f'"{cell}"' if "," in cell else cell for cell in (*NO_VALUES, *NOT_NUMBERS)]
    lines = [tab.join(("prompt", "input", "completion")), *(tab.join((cell, cell, cell)) for cell in cells)]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    rows = read_rows(DataSource(path=tmp_path / name, input="input"), SFT).rows
    assert [row.parts[:3] for row in rows] == [(cell, cell, cell) for cell in (*NO_VALUES, *NOT_NUMBERS)]


def test_text_in_json_stays_text_whatever_it_looks_like(tmp_path: Path) -> None:
    cells = (*NO_VALUES, *NOT_NUMBERS)
    lines = (f'{{"prompt": "q", "completion": "{cell}", "day": "2020-01-02T03:04:05"}}\n' for cell in cells)
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    rows = read_rows(DataSource(path=tmp_path / "rows.jsonl"), SFT).rows
    assert [row.parts[2] for row in rows] == list(cells)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", '{"prompt": "q", "completion": "a"}\n{"prompt": "q", "completion": "b"}\n', "must be named .jsonl"),
        ("a.json", '{"data": [{"prompt": "q", "completion": "a"}]}', "the file is one JSON object, not a list of them"),
        (
            "a.jsonl",
            '[{"prompt": "q", "completion": "a"},\n {"prompt": "q", "completion": "b"}]\n',
            "line 1 is not JSON",
        ),
        ("a.jsonl", '{"prompt": "q", "completion": "a"},\n{"prompt": "q", "completion": "b"}\n', "line 1 is not JSON"),
        ("a.json", '[{"prompt": "q", "completion": "a"},]', "line 1 is not JSON"),
    ],
)
def test_json_under_the_wrong_name_is_refused_with_its_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TaskFailed, match=rf"{name}: .*{says}"):
        read_rows(DataSource(path=tmp_path / name), SFT)


def test_a_key_that_some_lines_lack_is_an_error_and_no_null(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "q", "completion": "a"}\n{"prompt": "q", "answer": "b"}\n')
    with pytest.raises(TaskFailed, match="line 2 has no column 'completion'"):
        read_rows(DataSource(path=tmp_path / "a.jsonl"), SFT)
