"""Rows of the owner: what is counted, skipped and noticed of their texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.data.checks.checking import CollectedData, collect
from agent.data.checks.report import DataReport
from agent.data.source import DataSource
from shared import kinds

SFT = kinds.find("sft")


def lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def collected(source: DataSource, kind: str = "sft") -> tuple[CollectedData, DataReport]:
    data = collect(source, kinds.find(kind))
    return data, data.report("notes", source, kinds.find(kind))


# --- white space and capital letters


@pytest.mark.parametrize("change", [lambda text: f"{text} ", str.upper, lambda text: text.replace(" ", "\n\t")])
def test_rows_that_differ_in_white_space_or_capitals_are_counted_as_duplicates_and_moved_nowhere(
    tmp_path: Path, change: Any
) -> None:
    rows = [{"prompt": f"what is {n}", "completion": f"it is {n}"} for n in range(40)]
    changed = [{key: change(text) for key, text in row.items()} for row in rows]
    data, found = collected(DataSource(path=lines(tmp_path / "a.jsonl", [*rows, *changed]), held_out=0.2))
    assert found.duplicates == 40
    held_out = {" ".join(located.row.prompt.split()).lower() for located in data.held_out}
    trained = [" ".join(located.row.prompt.split()).lower() for located in data.train]
    assert found.same_prompt == sum(prompt in held_out for prompt in trained) > 0
    alone, _ = collected(DataSource(path=lines(tmp_path / "b.jsonl", rows), held_out=0.2))
    assert {located.row for located in alone.held_out} <= {located.row for located in data.held_out}
    assert {located.row for located in alone.train} <= {located.row for located in data.train}


def test_rows_that_differ_in_a_word_or_a_role_are_no_duplicates(tmp_path: Path) -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    system = [("system", "a"), *turns[2:]]
    user = [("user", "a"), *turns[2:]]
    records = [{"messages": [{"role": role, "content": text} for role, text in part]} for part in (turns, system, user)]
    _, found = collected(DataSource(path=lines(tmp_path / "a.jsonl", records), held_out=0.0))
    assert (found.train, found.duplicates) == (3, 0)


# --- control characters


def test_text_of_cp1252_that_is_read_as_latin_1_is_noticed_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("prompt,completion\nq,a\nq,“x” €\nq – r,é\n".encode("cp1252"))
    _, found = collected(DataSource(path=path, held_out=0.0, encoding="ISO-8859-1"))
    (notice,) = map(str, found.notices)
    assert notice == (
        "a.csv: line 3 has control characters (U+0080 to U+009F): the file may be cp1252; set encoding = "
        '"cp1252"; also line 4'
    )
    data, found = collected(DataSource(path=path, held_out=0.0, encoding="cp1252"))
    assert (found.notices, data.train[1].row.completions[0].completion) == ([], "“x” €")


def test_text_of_utf_8_that_is_read_as_latin_1_is_noticed_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\nq – r,a\n", encoding="utf-8")
    (notice,) = map(str, collected(DataSource(path=path, held_out=0.0, encoding="latin-1"))[1].notices)
    assert notice == ('a.csv: line 2 has text that is UTF-8, which encoding = "latin-1" misreads; set "utf-8"')


@pytest.mark.parametrize("place", ["prompt", "completion", "turn"])
def test_control_characters_that_another_program_left_are_noticed_in_every_text(tmp_path: Path, place: str) -> None:
    record: dict[str, Any] = {"prompt": "q", "completion": "a"}
    if place == "turn":
        record["prompt"] = [{"role": "user", "content": "q\x92s"}]
    else:
        record[place] = "it\x92s"
    path = lines(tmp_path / "a.jsonl", [record])
    _, found = collected(DataSource(path=path, held_out=0.0, encoding="latin-1"))  # JSON is UTF-8 whatever it says
    (notice,) = map(str, found.notices)
    assert notice == (
        "a.jsonl: line 1 has control characters (U+0080 to U+009F): its text was read in a wrong encoding before; "
        "correct it where it was written"
    )
    plain = lines(tmp_path / "a.jsonl", [{"prompt": "\tq\x7f\xa0é", "completion": "€\n"}])
    assert collected(DataSource(path=plain, held_out=0.0))[1].notices == []


def test_bytes_that_an_encoding_lacks_name_another_one_to_try(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"prompt,completion\nq,\x81\n")
    for encoding, other in (("utf-8", "cp1252"), ("cp1252", "latin-1")):
        (error,) = map(str, collected(DataSource(path=path, encoding=encoding))[1].errors)
        assert error.endswith(f'text; set its encoding in agent.toml, such as encoding = "{other}"')


# --- completions of white space


@pytest.mark.parametrize("text", [" ", "\n\t ", "\xa0", "\u3000\u2028"])
def test_a_completion_of_white_space_alone_is_an_empty_one(tmp_path: Path, text: str) -> None:
    rows = [{"prompt": f"q{n}", "completion": f"a{n}"} for n in range(30)]
    whole, _ = collected(DataSource(path=lines(tmp_path / "a.jsonl", rows), held_out=0.2))
    blank = {"prompt": "q0", "completion": text}
    chat = {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": text}]}
    source = DataSource(path=lines(tmp_path / "a.jsonl", [blank, *rows, chat]), held_out=0.2)
    data, found = collected(source)
    assert found.skipped == {"an empty completion": 2}
    for part, before in ((data.train, whole.train), (data.held_out, whole.held_out)):
        assert [located.row for located in part] == [located.row for located in before], "the split moved"
    pair = lines(tmp_path / "b.jsonl", [{"prompt": "q", "chosen": "a", "rejected": text}])
    assert collected(DataSource(path=pair), "dpo")[1].skipped == {"an empty completion": 1}


def test_of_a_unique_column_a_row_with_a_blank_completion_is_not_the_first(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"prompt": "q", "completion": "  "}, {"prompt": "q", "completion": "a"}])
    data, _ = collected(DataSource(path=path, unique="prompt", held_out=0.0))
    assert [located.place for located in data.train] == ["line 2"]
