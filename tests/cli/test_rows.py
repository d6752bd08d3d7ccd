"""``fedloom agent rows``: which rows are held out."""

import json
from pathlib import Path

from tests.cli.conftest import Run

ROWS = [{"prompt": f"question {number}", "completion": f"answer {number}"} for number in range(40)]


def write(home: Path, table: str = "", rows: list[dict[str, str]] = ROWS) -> None:
    (home / "agent.toml").write_text(f'[data.notes]\npath = "notes.jsonl"\nheld_out = 0.2\n{table}')
    (home / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_held_out_rows_are_listed_by_their_lines_and_none_is_quoted(run: Run, tmp_path: Path) -> None:
    write(tmp_path)
    ran = run("agent", "rows", "notes", "--home", tmp_path)
    assert ran.code == 0, ran.err
    first, *lines = ran.out.splitlines()
    assert first == f"notes: {len(lines)} of 40 rows are held out, by held_out = 0.2"
    assert all(line.startswith("  notes.jsonl: line ") for line in lines)
    assert "question" not in ran.out
    listed = json.loads(run("agent", "rows", "notes", "--home", tmp_path, "--json").out)
    assert (listed["train"], len(listed["held_out"])) == (40 - len(lines), len(lines))
    write(tmp_path, rows=[*ROWS, {"prompt": "one", "completion": "more"}])
    again = run("agent", "rows", "notes", "--home", tmp_path).out.splitlines()
    assert again[1 : len(lines) + 1] == lines, "a row that is added moves no other"


def test_a_file_of_held_out_rows_is_named(run: Run, tmp_path: Path) -> None:
    write(tmp_path, 'held_out_path = "held.jsonl"\n'.replace("held_out = 0.2\n", ""))
    (tmp_path / "held.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    ran = run("agent", "rows", "notes", "--home", tmp_path)
    assert (ran.code, ran.out.splitlines()[1:]) == (0, ["  held.jsonl: line 1"]), ran.err


def test_unknown_and_broken_data_end_in_words(run: Run, tmp_path: Path) -> None:
    write(tmp_path)
    assert "no table [data.other]" in run("agent", "rows", "other", "--home", tmp_path).err
    (tmp_path / "notes.jsonl").write_text("{\n")
    ran = run("agent", "rows", "notes", "--home", tmp_path)
    assert ran.code == 2
    assert "notes.jsonl: line 1 is not JSON" in ran.err
