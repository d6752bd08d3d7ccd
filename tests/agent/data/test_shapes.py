"""From records of every shape to rows, and the errors of records that cannot become one."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.data.held_out import is_held_out, split_rows
from agent.data.parsing.open_record import OpenRecord, RecordError, SkippedRecord
from agent.data.reading import Rows, read_rows
from agent.data.rows import Comparison, LocatedRow, Row, Turn
from agent.data.shapes import parse_row
from agent.data.source import DataSource
from shared.kinds import Kind, KindSection, find

SOURCE = DataSource(path=Path("rows.jsonl"))
SYSTEM = Turn("system", "Be brief.")
BEFORE = (SYSTEM, Turn("user", "Hi"), Turn("assistant", "Hello."))
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
]
SHAREGPT = [
    {"from": name, "value": turn["content"]}
    for name, turn in zip(("system", "human", "gpt", "human", "gpt"), CHAT, strict=True)
]


def rows(tmp_path: Path, records: list[dict[str, Any]], kind: str = "sft", **columns: Any) -> Rows:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_rows(DataSource(path=path, **columns), find(kind))


def split(rows: list[Row], own_held_out: list[Row] | None, fraction: float) -> tuple[list[Row], ...]:
    def located(rows: list[Row]) -> list[LocatedRow]:
        return [LocatedRow("rows.jsonl", f"line {number}", row) for number, row in enumerate(rows, 1)]

    parts = split_rows(located(rows), located(own_held_out) if own_held_out is not None else None, fraction)
    return tuple([each.row for each in part] for part in parts)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ({"instruction": "Add.", "input": "1 1", "output": "2"}, Row("Add.", "1 1", "2")),
        ({"instruction": "Add.", "output": "2"}, Row("Add.", "", "2")),
        ({"prompt": "Why?", "completion": "Because."}, Row("Why?", "", "Because.")),
        ({"messages": CHAT}, Row("Why?", "", "Because.", BEFORE)),
        ({"conversations": SHAREGPT}, Row("Why?", "", "Because.", BEFORE)),
        ({"prompt": CHAT[:4], "completion": CHAT[4:]}, Row("Why?", "", "Because.", BEFORE)),
        ({"prompt": "Hi", "prompt_id": "1", "messages": CHAT}, Row("Why?", "", "Because.", BEFORE)),
        ({"messages": [*CHAT, {"role": "user", "content": "Bye."}]}, Row("Why?", "", "Because.", BEFORE)),
    ],
)
def test_well_known_shapes_need_no_settings(tmp_path: Path, record: dict[str, Any], row: Row) -> None:
    assert rows(tmp_path, [record]).rows == [row]


def test_other_columns_are_named_in_the_settings(tmp_path: Path) -> None:
    turns = [{"q": "x", "talk": CHAT[1:3]}]
    assert rows(tmp_path, turns, messages="talk").rows == [Row("Hi", "", "Hello.")]
    hh = [{"chosen": "\n\nHuman: Hi\n\nAssistant: Hello."}]
    assert rows(tmp_path, hh, messages="chosen").rows == [Row("Hi", "", "Hello.")]


def test_settings_override_the_detected_shape(tmp_path: Path) -> None:
    record = {"messages": CHAT, "prompt": "p", "completion": "c"}
    assert rows(tmp_path, [record]).rows == [Row("p", "", "c")]
    assert rows(tmp_path, [record], messages="messages").rows == [Row("Why?", "", "Because.", BEFORE)]


HH = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"


@pytest.mark.parametrize(
    ("record", "pair"),
    [
        ({"prompt": "Why?", "chosen": "Because.", "rejected": "No."}, Comparison("Why?", "", ("Because.", "No."))),
        (
            {"instruction": "Why?", "input": "x", "chosen": "Because.", "rejected": "No."},
            Comparison("Why?", "x", ("Because.", "No.")),
        ),
        (
            {"prompt": "ignored", "chosen": CHAT, "rejected": [*CHAT[:4], {"role": "assistant", "content": "No."}]},
            Comparison("Why?", "", ("Because.", "No."), BEFORE),
        ),
        (
            {"prompt": CHAT[:4], "chosen": CHAT[4:], "rejected": [{"role": "assistant", "content": "No."}]},
            Comparison("Why?", "", ("Because.", "No."), BEFORE),
        ),
        (
            {
                "conversations": SHAREGPT[:4],
                "chosen": {"from": "gpt", "value": "Because."},
                "rejected": {"from": "gpt", "value": "No."},
            },
            Comparison("Why?", "", ("Because.", "No."), BEFORE),
        ),
        (
            {"chosen": f"{HH} Because.", "rejected": f"{HH} No."},
            Comparison("Why?", "", ("Because.", "No."), BEFORE[1:]),
        ),
    ],
)
def test_preferences_of_every_shape_need_no_settings(tmp_path: Path, record: dict[str, Any], pair: Comparison) -> None:
    assert rows(tmp_path, [record], "dpo").rows == [pair]


def test_of_equal_transcripts_the_last_reply_is_the_completion() -> None:
    record = {"chosen": f"{HH} Because.", "rejected": f"{HH} Because."}
    assert parse_row(OpenRecord(record, SOURCE), find("dpo")) == Comparison(
        "Why?", "", ("Because.", "Because."), BEFORE[1:]
    )


@pytest.mark.parametrize(
    ("record", "kind", "reason"),
    [
        ({"messages": []}, "sft", "no assistant turn"),
        ({"messages": CHAT[:2]}, "sft", "no assistant turn"),
        ({"messages": CHAT[2:3]}, "sft", "an assistant turn that follows no user turn"),
        ({"messages": [*CHAT, CHAT[2]]}, "sft", "an assistant turn that follows no user turn"),
        ({"messages": [*CHAT[1:3], *CHAT]}, "sft", "a system turn that is not the first"),
        ({"chosen": f"{HH} a", "rejected": "\n\nHuman: Hi\n\nAssistant: No."}, "dpo", "completions that differ before"),
        ({"chosen": "\n\nHuman: Hi", "rejected": f"{HH} a"}, "dpo", "no assistant turn"),
    ],
)
def test_records_with_nothing_to_train_on_are_skipped_and_counted(
    tmp_path: Path, record: dict[str, Any], kind: str, reason: str
) -> None:
    source = SOURCE.model_copy(update={"messages": "messages" if kind == "sft" else None})
    with pytest.raises(SkippedRecord, match=reason):
        parse_row(OpenRecord(record, source), find(kind))
    found = rows(tmp_path, [record, record], kind)
    assert (found.rows, found.skipped.total()) == ([], 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            [{"role": "SECRET", "content": "x"}],
            "(messages), turn 1, has an unknown 'role'; known are system",
        ),
        ([{"role": "user", "content": {"SECRET": 1}}], "turn 1, in its 'content' holds an object, not text"),
        ([CHAT[1], {"speaker": "x", "text": "SECRET"}], "turn 2, has neither 'role' and 'content' nor 'from'"),
        ("SECRET", "holds neither messages nor a transcript"),
        (3, "holds a number, not messages"),
        ("\ud800", "half a character"),
    ],
)
def test_errors_in_messages_name_the_column_and_turn_and_never_the_content(value: Any, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse_row(OpenRecord({"messages": value}, SOURCE.model_copy(update={"messages": "messages"})), find("sft"))
    assert message in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_rows_that_repeat_a_unique_column_are_skipped_after_the_first(tmp_path: Path) -> None:
    pairs = (("a", "1"), ("b", "2"), ("a", "3"), ("c", ""), ("c", "4"))
    found = rows(tmp_path, [{"prompt": p, "completion": c} for p, c in pairs], unique="prompt")
    assert [row for row in found.rows if row.completion] == [Row("a", "", "1"), Row("b", "", "2"), Row("c", "", "4")]
    assert dict(found.skipped) == {"a repeated 'prompt'": 1}


# --- the split


def test_the_split_of_single_turn_rows_never_changes() -> None:
    """The numbers are those of the first version: a row that moved could be trained on after an evaluation on it."""
    assert [n for n in range(60) if is_held_out(Row(f"p{n}", "", f"c{n}"), 0.1)] == [2, 7, 10, 15, 19, 22, 35, 49, 57]
    assert [n for n in range(60) if is_held_out(Comparison(f"p{n}", "i", (f"c{n}", f"r{n}")), 0.1)] == [27, 35, 41, 46]


def test_the_split_of_conversations_stays_when_rows_are_added_and_keeps_equal_ones_together() -> None:
    conversations = [Row(f"p{n}", "", "c", (Turn("user", f"{n}"), Turn("assistant", "x"))) for n in range(1000)]
    train, held_out = split(conversations, None, 0.2)
    assert 150 < len(held_out) < 250
    assert not set(train) & set(held_out)
    _, more = split([Row("new", "", "c"), *conversations, *conversations], None, 0.2)
    assert set(held_out) == set(more) - {Row("new", "", "c")}
    assert len(more) >= 2 * len(held_out)


def test_earlier_turns_are_part_of_the_row() -> None:
    rows_before = [Row("p", "", "c", (Turn(role, text),)) for role in ("user", "assistant") for text in ("a", "b")]
    assert len({row.parts for row in [*rows_before, Row("p", "", "c")]}) == 5


def test_a_file_of_held_out_rows_is_never_trained_on() -> None:
    a, b, c = (Row(name, "", "x") for name in "abc")
    assert split([a, b, a, c], [a, b], 0.5) == ([c], [a, b])


LABELLED = Kind("labelled", "", KindSection, ("completion",), ("label",), ())


@pytest.mark.parametrize(
    ("value", "label"),
    [(True, 1.0), (False, 0.0), (0.25, 0.25), (3, 3.0), ("true", 1.0), (" False ", 0.0), ("1", 1.0), ("0.5", 0.5)],
)
def test_a_label_is_a_number_or_true_or_false_also_as_text_of_a_table(value: Any, label: float) -> None:
    row = parse_row(OpenRecord({"prompt": "p", "completion": "c", "label": value}, SOURCE), LABELLED)
    assert row.labels == (label,)


@pytest.mark.parametrize(
    "value", [None, "", "good", float("nan"), float("inf"), 10**400, "1" * 400, "[" * 9999, [1], {}]
)
def test_other_labels_are_errors_without_their_content(value: Any) -> None:
    with pytest.raises(
        RecordError, match=r"^: the column 'label' \(label\) holds neither true nor false nor a number$"
    ):
        parse_row(OpenRecord({"prompt": "p", "completion": "c", "label": value}, SOURCE), LABELLED)


def test_a_label_has_the_column_that_the_owner_says() -> None:
    source = SOURCE.model_copy(update={"other_columns": {"label": "good"}})
    record = {"prompt": "p", "completion": "c", "good": True}
    assert parse_row(OpenRecord(record, source), LABELLED).labels == (1.0,)
    with pytest.raises(RecordError, match="has no column 'label'"):
        parse_row(OpenRecord(record, SOURCE), LABELLED)
