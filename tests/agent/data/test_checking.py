"""Checking data without a tokenizer: every error is reported, and every row is counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.data.checks.checking import collect, guess_kind
from agent.data.checks.report import MAX_PLACES, DataReport, Spread
from agent.data.reading import read_split
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def report(source: DataSource, kind: str = "sft") -> DataReport:
    return collect(source, find(kind)).report("notes", source, find(kind))


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {"prompt": f"p{number}", "completion": f"c{number}"} | changes


def test_counts(tmp_path: Path) -> None:
    rows = [*(row(n) for n in range(100)), row(3), row(200, completion=""), row(201, completion="")]
    source = DataSource(path=write(tmp_path / "a.jsonl", rows), held_out=0.2)
    found = report(source)
    assert found.records == 103
    assert found.train + found.held_out == 101
    assert 10 < found.held_out < 30
    assert found.skipped == {"an empty completion": 2}
    assert (found.duplicates, found.overlap, found.n_errors, found.unusable) == (1, 0, 0, "")
    assert found.tokens is None
    assert found.characters is not None
    assert (found.characters.least, found.characters.most) == (4, 6)


def test_errors_name_their_place_are_grouped_by_kind_and_never_quote_a_row(tmp_path: Path) -> None:
    rows = [row(0), '{"SECRET\n', *[{"q": "SECRET"}] * (MAX_PLACES + 5), row(1, prompt=3)]
    found = report(DataSource(path=write(tmp_path / "a.jsonl", rows), held_out=0.0))
    assert found.n_errors == MAX_PLACES + 7
    assert found.unusable == f"{MAX_PLACES + 7} errors"
    first, second, third = map(str, found.errors)
    assert first.startswith("a.jsonl: line 2 is not JSON")
    assert second.startswith("a.jsonl: line 3 has no column 'prompt' (prompt); it has 'q'; also line 4, line 5, ")
    assert second.endswith(f"line {MAX_PLACES + 2}, and 5 more")
    assert third == (
        "a.jsonl: line 18: the column 'prompt' (prompt) holds a number, not text; numbers = true reads it as text"
    )
    assert "SECRET" not in first + second + third
    assert found.train == 1


def test_fifty_errors_that_differ_in_numbers_or_columns_are_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\n" + "".join(f"a{',b' * n}\n" for n in range(2, 52)))
    found = report(DataSource(path=path))
    assert [(len(error.places), error.count) for error in found.errors] == [(MAX_PLACES, 50)]
    assert str(found.errors[0]).startswith("a.csv: line 2 has 3 cells, but the header has 2; also line 3, line 4, ")
    columns = report(DataSource(path=write(tmp_path / "b.jsonl", [{f"c{n}": "x"} for n in range(50)])))
    assert [str(error)[:76] for error in columns.errors] == [
        "b.jsonl: line 1 has no column 'prompt' (prompt); it has 'c0'; also line 2, l"
    ]


def test_an_unreadable_file_is_an_error_in_the_report(tmp_path: Path) -> None:
    gone = report(DataSource(path=tmp_path / "gone.jsonl"))
    assert "no such file" in str(gone.errors[0])
    empty = report(DataSource(path=write(tmp_path / "a.jsonl", [])))
    assert (str(empty.errors[0]), empty.unusable) == ("a.jsonl: the file has no rows", "1 error")
    nothing = report(DataSource(path=write(tmp_path / "b.jsonl", [row(0, completion="")])))
    assert (nothing.n_errors, nothing.unusable) == (0, "there is no row to train on")


def test_rows_and_prompts_in_both_splits_are_counted(tmp_path: Path) -> None:
    held_out = write(tmp_path / "held.jsonl", [row(0), row(1), row(2, completion="other")])
    source = DataSource(path=write(tmp_path / "a.jsonl", [row(n) for n in range(5)]), held_out_path=held_out)
    found = report(source)
    assert (found.records, found.train, found.held_out, found.overlap, found.same_prompt) == (8, 3, 3, 2, 1)


@pytest.mark.parametrize(
    ("part", "column"), [("further input", "input"), ("a system prompt", "system")], ids=["input", "system"]
)
@pytest.mark.parametrize("at", ["a.jsonl", "h.jsonl"])
def test_a_held_out_file_of_other_parts_is_noticed(tmp_path: Path, part: str, column: str, at: str) -> None:
    record = {"instruction": "q", "output": "a"}
    for name in ("a.jsonl", "h.jsonl"):
        write(tmp_path / name, [record | ({column: "x"} if name == at else {}), record | {"output": "b"}])
    source = DataSource(path=tmp_path / "a.jsonl", held_out_path=tmp_path / "h.jsonl")
    other = "h.jsonl" if at == "a.jsonl" else "a.jsonl"
    notice = f"no row has {part}, but rows of the other file have; evaluation differs from training"
    assert [str(each) for each in report(source).notices] == [f"{other}: {notice}"]
    public = "data.notes" if other == "a.jsonl" else "data.notes.held_out_path"
    assert read_split(source.named("notes"), find("sft")).notices.public == [f"{public}: {notice}"]
    same = DataSource(path=tmp_path / at, held_out_path=tmp_path / at)
    assert report(same).notices == []


def test_examples_are_the_first_the_last_and_one_between(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [row(n) for n in range(9)])
    found = report(DataSource(path=path, held_out=0.0))
    assert [example.place for example in found.examples] == ["line 1", "line 5", "line 9"]
    spans = [(span.text, span.supervised) for span in found.examples[0].completions[0].spans]
    assert spans == [("user: ", False), ("p0", False), ("\nassistant: ", False), ("c0", True)]
    single = report(DataSource(path=write(path, [row(0)]), held_out=0.0))
    assert [example.place for example in single.examples] == ["line 1"]


def test_an_example_shows_that_the_loss_leaves_out_a_reply_of_weight_0(tmp_path: Path) -> None:
    turns = [("user", "a", 1), ("assistant", "bad", 0), ("user", "b", 1), ("assistant", "good", 1)]
    messages = [{"role": role, "content": text, "weight": weight} for role, text, weight in turns]
    found = report(DataSource(path=write(tmp_path / "a.jsonl", [{"messages": messages}]), held_out=0.0))
    assert [span.text for span in found.examples[0].completions[0].spans if span.supervised] == ["good"]


def test_the_kind_follows_from_the_columns(tmp_path: Path) -> None:
    assert guess_kind(DataSource(path=write(tmp_path / "a.jsonl", ["{\n", row(0)]))).name == "sft"
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    source = DataSource(path=write(tmp_path / "b.jsonl", [pair, pair | {"rejected": "a"}]), held_out=0.0)
    assert guess_kind(source).name == "dpo"
    found = report(source, "dpo")
    assert (found.train, found.skipped) == (1, {"two equal completions": 1})
    assert [completion.name for completion in found.examples[0].completions] == ["chosen", "rejected"]
    assert guess_kind(DataSource(path=tmp_path / "gone.jsonl")).name == "sft"


def test_a_column_of_pairs_may_be_read_as_messages_but_then_not_as_pairs(tmp_path: Path) -> None:
    prompt = "\n\nHuman: Why?\n\nAssistant: "
    path = write(tmp_path / "a.jsonl", [{"chosen": prompt + "Because.", "rejected": prompt + "No."}])
    source = DataSource(path=path, messages="chosen", held_out=0.0)
    assert guess_kind(source).name == "sft"
    assert report(source).train == 1
    (error,) = report(source, "dpo").errors
    assert "the column 'chosen' is set as both messages and chosen" in str(error)


def test_an_input_that_no_row_has_is_one_error(tmp_path: Path) -> None:
    found = report(DataSource(path=write(tmp_path / "a.jsonl", [row(0), row(1)]), input="more", held_out=0.0))
    assert (found.records, found.train, found.n_errors) == (2, 2, 1)
    assert str(found.errors[0]) == (
        "a.jsonl: no row has the column 'more' (input); the columns are 'prompt', 'completion'"
    )


@pytest.mark.parametrize(("numbers", "expected"), [([5], (5, 5, 5, 5, 5)), (range(101), (0, 50, 90, 99, 100))])
def test_a_spread_is_made_of_the_numbers_themselves(numbers: Any, expected: tuple[int, ...]) -> None:
    found = Spread.of(reversed(numbers))
    assert found is not None
    assert tuple(found.model_dump().values()) == expected
    assert Spread.of([]) is None


def test_a_name_in_other_columns_that_no_kind_needs_is_an_error_and_one_of_another_kind_is_noticed(
    tmp_path: Path,
) -> None:
    source = DataSource(path=write(tmp_path / "a.jsonl", [row(0), row(1)]), held_out=0.0)
    found = report(source.model_copy(update={"other_columns": {"lable": "good"}}))
    assert [str(error) for error in found.errors] == [
        "a.jsonl: other_columns names 'lable', which campaigns of kind sft do not need; they need 'completion'"
    ]
    assert found.train == 2
    with pytest.raises(TaskFailed, match="other_columns names 'lable', which campaigns of kind sft do not need"):
        read_split(source.model_copy(update={"other_columns": {"lable": "good"}}), find("sft"))
    other = report(source.model_copy(update={"other_columns": {"chosen": "better"}}))
    assert [str(notice) for notice in other.notices] == [
        "a.jsonl: other_columns names 'chosen', which campaigns of kind sft do not need"
    ]
    needed = report(source.model_copy(update={"other_columns": {"completion": "prompt"}}))
    assert (needed.errors, [str(each) for each in needed.notices]) == (
        [],
        ["a.jsonl: 1 column is not read: 'completion'"],
    )
