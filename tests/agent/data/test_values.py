"""Values of records: null is empty text, numbers are text only by a setting, and no key is there twice."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.data.checks.checking import collect
from agent.data.checks.notices import Occurrences
from agent.data.files.json_text import to_json
from agent.data.files.records import read_records
from agent.data.reading import read_rows
from agent.data.rows import Row
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find
from tests.agent.data.test_checking import report


def data(tmp_path: Path, *lines: str, name: str = "a.jsonl", **settings: Any) -> DataSource:
    path = tmp_path / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return DataSource(path=path, held_out=0.0, **settings)


def errors(source: DataSource) -> list[str]:
    return [str(error) for error in collect(source, find("sft")).errors.problems]


# --- null


def test_null_is_empty_text_and_the_rows_without_prompt_or_completion_are_counted(tmp_path: Path) -> None:
    source = data(
        tmp_path,
        '{"prompt": "a", "completion": null}',
        '{"prompt": null, "completion": "b"}',
        '{"prompt": null, "more": null, "completion": "b"}',
        '{"prompt": null, "more": "c", "completion": "d"}',
        '{"prompt": "e", "more": null, "completion": "f"}',
        input="more",
    )
    found = report(source)
    assert (found.train, found.n_errors, found.skipped) == (2, 0, {"an empty prompt": 2, "an empty completion": 1})
    pairs = data(tmp_path, '{"prompt": null, "chosen": "a", "rejected": "b"}')
    assert report(pairs, "dpo").skipped == {"an empty prompt": 1}


def test_null_in_a_conversation_is_an_empty_turn_which_is_noticed(tmp_path: Path) -> None:
    turns = [("user", "a"), ("assistant", None), ("user", "b"), ("assistant", "c")]
    messages = [{"role": role, "content": text} for role, text in turns]
    found = report(data(tmp_path, json.dumps({"messages": messages}), '{"messages": null}'))
    assert [str(notice) for notice in found.notices] == ["a.jsonl: line 1 has an empty turn before its last prompt"]
    assert (found.train, found.skipped) == (1, {"no assistant turn": 1})


# --- numbers

LITERALS = ["0.10", "1e3", "3", "-0", "-0.0", "1E-7", "true", "false", "123456789012345678901234567890", "0.1e+1"]


@pytest.mark.parametrize("literal", LITERALS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_with_the_setting_a_number_is_text_as_the_file_spells_it(tmp_path: Path, name: str, literal: str) -> None:
    record = f'{{"prompt": "q", "completion": {literal}}}'
    source = data(tmp_path, f"[{record}]" if name == "a.json" else record, name=name, numbers=True)
    found = read_rows(source, find("sft"))
    assert found.rows == [Row("q", "", literal)]
    place = "row 1" if name == "a.json" else "line 1"
    assert found.notices.public == [f"the data: {place} has a number, or true or false, which is read as text"]


@pytest.mark.parametrize("literal", LITERALS)
def test_without_the_setting_a_number_is_an_error_that_names_it(tmp_path: Path, literal: str) -> None:
    (error,) = errors(data(tmp_path, f'{{"prompt": "q", "completion": {literal}}}'))
    kind = "true or false" if literal in ("true", "false") else "a number"
    assert error == (
        f"a.jsonl: line 1: the column 'completion' (completion) holds {kind}, not text; numbers = true reads it as text"
    )


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_never_text(tmp_path: Path, literal: str) -> None:
    (error,) = errors(data(tmp_path, f'{{"prompt": "q", "completion": {literal}}}', numbers=True))
    assert error == "a.jsonl: line 1: the column 'completion' (completion) holds a number that is not finite"


def test_numbers_of_messages_and_of_the_input_are_read_the_same_way(tmp_path: Path) -> None:
    messages = (
        '[{"role": "user", "content": 1.50}, {"role": "assistant", "content": [2.0, {"type": "text", "text": 3}]}]'
    )
    source = data(tmp_path, f'{{"messages": {messages}}}', numbers=True)
    assert read_rows(source, find("sft")).rows == [Row("1.50", "", "2.03")]
    source = data(tmp_path, '{"prompt": "q", "more": 0.0, "completion": "a"}', numbers=True, input="more")
    assert read_rows(source, find("sft")).rows == [Row("q", "0.0", "a")]


def test_numbers_of_a_table_have_their_shortest_spelling(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    columns = {
        "prompt": pyarrow.array([0.1], pyarrow.float32()),
        "more": pyarrow.array([Decimal("1.10")]),
        "completion": pyarrow.array([0.1], pyarrow.float64()),
    }
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    source = DataSource(path=path, numbers=True, input="more")
    assert read_rows(source, find("sft")).rows == [Row("0.1", "1.10", "0.1")]


@pytest.mark.parametrize("literal", LITERALS)
def test_records_that_are_written_again_keep_the_spelling(tmp_path: Path, literal: str) -> None:
    line = f'{{"a": [{literal}, "\\u00e9\\n"], "b": {{"c": null}}}}'
    ((_, record),) = read_records(data(tmp_path, line), Occurrences())
    assert to_json(record) == line


# --- keys


@pytest.mark.parametrize("depth", [100, 400])
def test_a_deeply_nested_value_is_read_or_refused(tmp_path: Path, depth: int) -> None:
    record = '{"prompt": "q", "completion": "a", "more": DEEP}'
    lines = [record.replace("DEEP", "[" * depth + inner + "]" * depth) for inner in ('{"x": 1}', '{"x": 1, "x": 2}')]
    found = report(data(tmp_path, *lines))
    assert (found.train, found.n_errors) == (1, 1)


def test_a_nesting_beyond_the_stack_is_an_error_with_its_line(tmp_path: Path) -> None:
    (error,) = errors(data(tmp_path, '{"prompt": ' + "[" * 100_000))
    assert error == "a.jsonl: line 1 is not JSON (too deeply nested)"


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "q", "completion": "right", "completion": "wrong"}',
        '{"prompt": "q", "completion": "a", "more": {"deep": [{"x": 1, "x": 1}]}}',
        '{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
    ],
)
def test_a_key_that_an_object_has_twice_is_an_error_at_any_depth(tmp_path: Path, line: str) -> None:
    name = next(name for name in ("completion", "x", "content") if line.count(f'"{name}"') == 2)
    good = '{"prompt": "q", "completion": "a"}'
    message = f" has a key twice in one object; name it once: {name!r}"
    assert errors(data(tmp_path, good, line, good))[0] == f"a.jsonl: line 2{message}"
    listed = data(tmp_path, f"[{good}, {line}, {good}]", name="a.json")
    assert errors(listed)[0] == f"a.json: row 2{message}"
    with pytest.raises(TaskFailed) as caught:
        read_rows(listed, find("sft"))
    assert str(caught.value).startswith("a.json: row 2 has a key twice in one object; name it once")
    assert repr(name) not in str(caught.value)


@pytest.mark.parametrize("nested", [False, True])
def test_two_columns_of_a_parquet_file_with_one_name_are_an_error(tmp_path: Path, nested: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    text = pyarrow.array(["a"])
    names = ["prompt", "completion", "completion"]
    table = pyarrow.table([text, text, text], names=names)
    if nested:
        struct = pyarrow.StructArray.from_arrays([text, text], names=["x", "x"])
        table = pyarrow.table([text, text, struct], names=["prompt", "completion", "more"])
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path)
    assert errors(DataSource(path=path)) == [
        "a.parquet: two columns, or two fields of one, have the same name; rename one of them: "
        + ("'x'" if nested else "'completion'")
    ]


def test_a_json_file_that_is_one_object_says_what_to_write(tmp_path: Path) -> None:
    wrapped = data(tmp_path, '{"version": 1, "rows": [{"prompt": "q", "completion": "a"}]}', name="a.json")
    assert errors(wrapped) == [
        "a.json: the file is one JSON object, not a list of them; write the records as [{…}, {…}]; its key 'rows' "
        "holds a list"
    ]
    assert errors(data(tmp_path, "3", name="a.json")) == ["a.json: the file is not a list of JSON objects"]


# --- encodings


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "mac_roman", "cp437"])
def test_utf_8_that_a_setting_misreads_is_noticed(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "rows.csv").write_bytes("prompt,completion\nCafé?,it is für Straße\n".encode())
    found = collect(DataSource(path=tmp_path / "rows.csv", encoding=encoding, held_out=0), find("sft"))
    [notice] = found.notices.problems
    assert str(notice) == (
        f'rows.csv: line 2 has text that is UTF-8, which encoding = "{encoding}" misreads; set "utf-8"'
    )


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("utf-8", "für “x” 漢"), ("gbk", "漢字"), ("cp1252", "für Straße “x” €"), ("cp1251", "Привет"), ("koi8-r", "мир")],
)
def test_text_in_the_encoding_that_is_set_is_no_misread_utf_8(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "rows.csv").write_bytes(f"prompt,completion\nq,{text}\n".encode(encoding))
    found = collect(DataSource(path=tmp_path / "rows.csv", encoding=encoding, held_out=0), find("sft"))
    assert found.notices.problems == []
    assert found.train[0].row.completions[0].completion == text


def test_utf_16_without_a_mark_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_bytes("q1@a1\nq2@a2\n".encode("utf-16-le"))
    found = collect(DataSource(path=tmp_path / "rows.txt", separator="@", held_out=0), find("sft"))
    assert any("the file may be UTF-16" in str(notice) for notice in found.notices.problems)


@pytest.mark.parametrize("encoding", ["rot13", "base64", "undefined", "no-such"])
def test_a_codec_that_is_no_encoding_of_text_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="unknown encoding"):
        DataSource(path=Path("rows.csv"), encoding=encoding)


def test_a_blank_before_a_quote_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('prompt,completion\n"q1", "a1"\nq2, a2\n')
    found = collect(DataSource(path=tmp_path / "rows.csv", held_out=0), find("sft"))
    assert [str(notice) for notice in found.notices.problems] == [
        "rows.csv: line 2 has a blank before a quote, so the quotes of this cell are read as text; remove the blank"
    ]
