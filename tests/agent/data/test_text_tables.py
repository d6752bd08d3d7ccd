"""Tables of text are read strictly: records out are records in, and each problem has its line."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.data.checks.checking import collect
from agent.data.files.file_record import BrokenRecord, FileRecord
from agent.data.files.records import scan_records
from agent.data.reading import read_rows
from agent.data.rows import Row
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find


def report(tmp_path: Path, text: str, name: str = "a.csv", **settings: Any) -> tuple[list[str], list[str], int]:
    """Errors, notices, and the number of records."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    found = collect(DataSource(path=path, **settings), find("sft"))
    return [str(each) for each in found.errors.problems], [str(each) for each in found.notices.problems], found.records


# --- quotes


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (
            'prompt,completion\nq1,a1\nq2,"5 feet 10\nq3,a3\nq4,a4\nq5,a5\n',
            ["a.csv: a quote opened on line 3 is never closed"],
        ),
        ('prompt,completion\n\n"q1\n\nx",a1\n"q2,a2', ["a.csv: a quote opened on line 6 is never closed"]),
        ('prompt,completion\nq1,"""\nq2,a2\n', ["a.csv: a quote opened on line 2 is never closed"]),
        ('"prompt,completion\nq1,a1\n', ["a.csv: a quote opened on line 1 is never closed"]),
        (
            'prompt,completion\nq1,"5 feet 10\nq2,"a2"\nq3,a3\n',
            [
                "a.csv: line 3 has text after a closing quote, which was opened on line 2; a quote within a quoted "
                "cell is doubled"
            ],
        ),
        (
            'prompt,completion\nq1,"a" b\nq2,"c"d\nq3,a3\n',
            [
                "a.csv: line 2 has text after a closing quote; a quote within a quoted cell is doubled; if quotes are "
                "plain text here, set quotes = false; also line 3"
            ],
        ),
        ('prompt,completion\r"q1"x,a1\r', ["a.csv: line 2 has text after a closing quote; a quote within a quoted"]),
    ],
)
def test_a_quote_that_is_not_closed_or_closed_too_early_is_an_error_with_its_line(
    tmp_path: Path, text: str, errors: list[str]
) -> None:
    found, _, _ = report(tmp_path, text)
    assert len(found) == len(errors)
    assert all(problem.startswith(error) for problem, error in zip(found, errors, strict=True)), found


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_without_quotes_the_separator_alone_divides_the_cells_and_each_line_is_a_record(
    tmp_path: Path, name: str, separator: str
) -> None:
    cells = [('"5', '10"'), ('"a" b', '""'), ('"', "x"), ("x", '"a"'), ("'", "\\"), ("a\\", "b")]
    text = "\r\n".join(separator.join(pair) for pair in [("prompt", "completion"), *cells])
    path = tmp_path / name
    path.write_bytes(text.encode())
    found = collect(DataSource(path=path, quotes=False, held_out=0.0), find("sft"))
    assert [(each.place, each.row) for each in found.train] == [
        (f"line {number}", Row(prompt, "", completion)) for number, (prompt, completion) in enumerate(cells, 2)
    ]
    assert (found.errors.total, found.notices.total) == (0, 0)
    path.write_text(separator.join(("prompt", "completion")) + f'\n"a{separator}b"{separator}c\n')
    (error,) = collect(DataSource(path=path, quotes=False), find("sft")).errors.problems
    assert str(error) == f"{name}: line 2 has 3 cells, but the header has 2"


@pytest.mark.parametrize("text", ['q,"a\n', 'q,"a" b\n'])
def test_an_error_of_quotes_names_the_setting_for_quotes_that_are_text(tmp_path: Path, text: str) -> None:
    (error,), _, _ = report(tmp_path, f"prompt,completion\n{text}")
    assert error.endswith("; if quotes are plain text here, set quotes = false")
    assert report(tmp_path, f"prompt,completion\n{text}", quotes=False) == ([], [], 1)


def test_reading_continues_after_a_broken_record(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion\nq1,a1\nq2,"a"2\nq3,a3\nq4\nq5,a5\n')
    collected = collect(DataSource(path=path, held_out=0.0), find("sft"))
    assert [located.place for located in collected.train] == ["line 2", "line 4", "line 6"]
    assert collected.errors.total == 2


def test_a_quote_within_an_unquoted_cell_is_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion\na 5" pipe,b\n"a ""5"" pipe",b\n')
    assert read_rows(DataSource(path=path), find("sft")).rows == [Row('a 5" pipe', "", "b"), Row('a "5" pipe', "", "b")]


@pytest.mark.parametrize(
    "text",
    [
        'prompt,completion\nq2,"5 feet 10\nq3,a3\nq4,a4"\nq5,a5\n',
        'prompt,completion\nq2,"5 feet 10\nq3,a3"\nq5,a5\n',
        'prompt,completion\r\n"5 feet 10\r\nq3,a3",x\r\nq5,a5\r\n',
    ],
)
def test_a_cell_that_swallows_a_record_is_noticed_with_its_lines(tmp_path: Path, text: str) -> None:
    errors, notices, records = report(tmp_path, text)
    (notice,) = notices
    last = 4 if "q4" in text else 3
    assert notice == (
        f"a.csv: the record on lines 2 to {last} has a cell of several lines, one of which looks like a record; "
        "check its quotes; if quotes are plain text here, set quotes = false"
    )
    assert (errors, records) == ([], 2)


@pytest.mark.parametrize("cell", ["Well, yes\nNo, thanks", "a\nb", "one,\ntwo", "\n\n"])
def test_prose_of_several_lines_is_not_taken_for_records(tmp_path: Path, cell: str) -> None:
    assert report(tmp_path, f'prompt,completion\n"{cell}",x\nq,"{cell}"\n') == ([], [], 2)


def counted(text: str, separator: str) -> int | None:
    """The number of records that are not blank, read character by character. None if a quote is not closed well."""
    records, state, has_text, position = 0, "start", False, 0
    while position < len(text):
        character = text[position]
        if state == "quoted":
            if character == '"' and text[position + 1 : position + 2] == '"':
                position += 1
            elif character == '"':
                state = "closed"
        elif character in "\r\n":
            records += has_text
            state, has_text = "start", False
        elif character == separator:
            state, has_text = "start", True
        elif state == "closed":
            return None
        else:
            state, has_text = ("quoted" if character == '"' and state == "start" else "text"), True
        position += 1
    return None if state == "quoted" else records + has_text


def scanned(text: str, name: str, **settings: Any) -> list[FileRecord]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(text.encode())
        return list(scan_records(DataSource(path=path, **settings)))


def texts(parts: Sequence[str], most: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts), max_size=most).map("".join)


CELLS = texts(["a", " ", ",", '"', "\n", "\r", "\r\n", "\t", "\0", "\u2028", "\x85", "é"], 6)


def written(cell: str, separator: str, *, quote: bool) -> str:
    needs_quotes = cell == "" or any(character in cell for character in ('"', separator, "\r", "\n"))
    return '"' + cell.replace('"', '""') + '"' if quote or needs_quotes else cell


@given(
    records=st.lists(st.tuples(CELLS, CELLS, st.booleans(), st.integers(0, 2)), max_size=6),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    name=st.sampled_from(["a.csv", "a.tsv"]),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_records_out_are_records_in(
    records: Sequence[tuple[str, str, bool, int]], line_end: str, name: str, mark: str
) -> None:
    separator = "," if name == "a.csv" else "\t"
    text = f"prompt{separator}completion{line_end}"
    for prompt, completion, quote, blank_lines in records:
        text += separator.join(written(cell, separator, quote=quote) for cell in (prompt, completion))
        text += line_end * (1 + blank_lines)
    assert counted(text, separator) == len(records) + 1
    found = [each.content for each in scanned(mark + text, name)]
    assert found == [{"prompt": prompt, "completion": completion} for prompt, completion, *_ in records]


@given(texts(["a", ",", '"', '"', "\n", "\r\n", " "], 30))
def test_of_any_table_each_record_is_read_or_an_error_says_that_its_quotes_are_wrong(text: str) -> None:
    expected = counted(text, ",")
    found = scanned(text, "a.csv", columns=["prompt", "completion"])
    quotes = [each for each in found if isinstance(each.content, BrokenRecord) and "quote" in each.content.message]
    if expected is None:
        assert quotes
    else:
        assert not quotes
        assert len(found) == expected


# --- names of columns


@pytest.mark.parametrize(
    ("header", "columns", "name"),
    [
        ("prompt,completion,completion", "2 and 3", "completion"),
        ("x,x,prompt,completion", "1 and 2", "x"),
        ("prompt,,completion,column 2", "2 and 4", "column 2"),
    ],
)
def test_two_columns_of_one_name_are_an_error(tmp_path: Path, header: str, columns: str, name: str) -> None:
    errors, _, _ = report(tmp_path, f"{header}\nq1,right,,\nq2,right,wrong,\n")
    assert errors == [f"a.csv: columns {columns} of the header have the same name; rename one of them: {name!r}"]
    with pytest.raises(TaskFailed) as caught:
        read_rows(DataSource(path=tmp_path / "a.csv"), find("sft"))
    assert name not in caught.value.failure.message.replace("columns", ""), "it is sent to the coordinator"


def test_columns_without_a_name_are_counted_unless_they_are_empty(tmp_path: Path) -> None:
    text = "prompt,completion,,,\nq1,a1,,x,\nq2,a2,,,\n"
    assert report(tmp_path, text) == ([], ["a.csv: 1 column is not read: 'column 4'"], 2)
    assert report(tmp_path, "prompt,completion,,\nq1,a1,,\n") == ([], [], 1)


def test_columns_that_no_setting_names_are_told_without_their_names_in_public(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,prompt,mood,completion,empty\n1,q1,sad,a1,\n2,q2,,a2,\n")
    notices = read_rows(DataSource(path=path), find("sft")).notices
    assert [str(each) for each in notices.problems] == ["a.csv: 2 columns are not read: 'id', 'mood'"]
    assert notices.public == ["the data: 2 columns are not read"]


def test_a_table_without_a_header_is_read_by_the_names_in_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("a1\tq1\na2\tq2\n")
    for settings in ({}, {"header": False}):
        source = DataSource(path=path, columns=["completion", "prompt"], **settings)
        assert read_rows(source, find("sft")).rows == [Row("q1", "", "a1"), Row("q2", "", "a2")]
    errors, _, records = report(tmp_path, "q1,a1,x\n", columns=["prompt", "completion"])
    assert (errors, records) == (["a.csv: line 1 has 3 cells, but the setting columns names 2"], 1)


def test_a_held_out_file_of_another_type_names_its_columns_itself(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q1,a1\n")
    (tmp_path / "h.jsonl").write_text('{"prompt": "q2", "completion": "a2"}\n')
    settings = {"columns": ["prompt", "completion"], "held_out_path": tmp_path / "h.jsonl"}
    found = collect(DataSource(path=tmp_path / "a.csv", **settings), find("sft"))
    assert [[each.row for each in part] for part in (found.train, found.held_out)] == [
        [Row("q1", "", "a1")],
        [Row("q2", "", "a2")],
    ]
    assert found.errors.total == 0


def test_a_header_that_lacks_a_column_says_how_to_name_the_columns(tmp_path: Path) -> None:
    (error,), _, _ = report(tmp_path, "q1,a1\nq2,a2\nq3,a3\n")
    assert error == (
        "a.csv: line 2 has no column 'prompt' (prompt); if the first line is a record, name the columns instead, such "
        "as columns = [\"prompt\", \"completion\"]; it has 'q1', 'a1'; also line 3"
    )


@pytest.mark.parametrize("header", ["prompt, completion", "prompt,Completion", "prompt,completion "])
def test_a_name_of_other_capitals_or_with_blanks_is_told(tmp_path: Path, header: str) -> None:
    (error,), _, _ = report(tmp_path, f"{header}\nq1,a1\n")
    hint = "it has one of that name with other capitals or with blanks around it"
    assert error.startswith(f"a.csv: line 2 has no column 'completion' (completion); {hint}; it has 'prompt', ")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_that_is_repeated_is_an_error_of_its_line(tmp_path: Path, mark: str) -> None:
    table = "prompt,completion\nq1,a1\n"
    errors, _, records = report(tmp_path, table + mark + table)
    assert (errors, records) == (["a.csv: line 3 repeats the header; remove the line"], 3)


def test_a_table_of_another_separator_says_which_setting_names_it(tmp_path: Path) -> None:
    (error,), _, _ = report(tmp_path, "prompt;completion\nq1;a1\n")
    assert error == (
        "a.csv: line 2 has no column 'prompt' (prompt); the header is one column: set the separator of the cells, such "
        "as separator = \";\"; it has 'prompt;completion'"
    )


@pytest.mark.parametrize("text", ["", "\n\n", "prompt,completion\n", "\r\n"])
def test_a_table_without_records_is_one_error(tmp_path: Path, text: str) -> None:
    assert report(tmp_path, text) == (["a.csv: the file has no rows"], [], 0)


def test_blank_lines_before_the_header_are_no_header(tmp_path: Path) -> None:
    assert report(tmp_path, "\n\nprompt,completion\nq1,a1\n") == ([], [], 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.txt"])
def test_a_byte_order_mark_says_the_encoding_of_data_too(tmp_path: Path, name: str, encoding: str) -> None:
    record = '{"prompt": "qé", "completion": "a"}'
    text = {"a.csv": "prompt,completion\nqé,a\n", "a.jsonl": record, "a.json": f"[{record}]", "a.txt": "qé@a\n"}[name]
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    for declared in ("utf-8", "latin-1"):
        source = DataSource(path=path, separator="@" if name == "a.txt" else None, encoding=declared)
        assert read_rows(source, find("sft")).rows == [Row("qé", "", "a")]


def test_a_line_without_the_separator_is_noticed_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("q1@a1\nbroken\nq2@a2\n")
    found = collect(DataSource(path=path, separator="@"), find("sft"))
    assert [str(each) for each in found.notices.problems] == ["a.txt: line 2 has no separator, and so no completion"]
    assert (found.records, dict(found.skipped)) == (3, {"an empty completion": 1})


def test_a_quote_that_swallows_a_large_file_is_refused_before_all_of_it_is_in_memory(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('prompt,completion\nq,"a' + f"{'x' * 100_000}\n" * 400)
    [error] = collect(DataSource(path=tmp_path / "rows.csv"), find("sft")).errors.problems
    assert str(error) == (
        "rows.csv: the record that begins on line 2 has more than 32,000,000 characters; close its quotes; if quotes "
        "are plain text here, set quotes = false"
    )
