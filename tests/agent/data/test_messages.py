"""Messages: no key, role, part or turn of a conversation is left out unseen."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.data.reading import Rows, read_rows, scan_rows
from agent.data.rows import Comparison, Row, Turn
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find


def user(text: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **keys}


def reply(text: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **keys}


def source_of(tmp_path: Path, *records: Any, **settings: Any) -> DataSource:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return DataSource(path=path, **settings)


def read(tmp_path: Path, *records: Any, kind: str = "sft", **settings: Any) -> Rows:
    return read_rows(source_of(tmp_path, *records, **settings), find(kind))


def talk(tmp_path: Path, *messages: Any, **settings: Any) -> Rows:
    return read(tmp_path, {"messages": list(messages)}, **settings)


def error(tmp_path: Path, *records: Any, kind: str = "sft", **settings: Any) -> tuple[str, str]:
    """The public and the private part of the only error."""
    (found,) = scan_rows(source_of(tmp_path, *records, **settings), find(kind))
    assert found.place == "line 1"
    assert found.error
    return found.error, found.private


# --- keys of messages

TOOL_CALL = [{"id": "c1", "type": "function", "function": {"name": "dose", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tool_calls", TOOL_CALL),
        ("function_call", {"name": "dose", "arguments": "{}"}),
        ("reasoning_content", "because"),
        ("thinking", "because"),
        ("refusal", "I cannot"),
        ("audio", {"id": "a1"}),
        ("images", ["a.png"]),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_key_that_changes_what_a_message_means_is_an_error_unless_the_owner_ignores_it(
    tmp_path: Path, key: str, value: Any, at: int
) -> None:
    messages = [user("dose of A?"), reply(""), user("it said 5 mg"), reply("Five milligrams.")]
    messages[at][key] = value
    assert error(tmp_path, {"messages": messages}) == (
        f": the column 'messages' (messages), turn {at + 1}, has {key!r}, which is not read; leave such conversations "
        f'out, or read them without it: ignore_keys = ["{key}"] in agent.toml',
        "",
    )
    found = talk(tmp_path, *messages, ignore_keys=[key])
    assert f"the data: line 1 has {key!r} in a message, which is ignored" in found.notices.public
    assert found.rows == [
        Row("it said 5 mg", "", "Five milligrams.", (Turn("user", "dose of A?"), Turn("assistant", "")))
    ]


def test_a_reply_that_only_calls_a_tool_says_so(tmp_path: Path) -> None:
    messages = [user("a"), {"role": "assistant", "tool_calls": TOOL_CALL}]
    assert "turn 2, has 'tool_calls', which is not read" in error(tmp_path, {"messages": messages})[0]


@pytest.mark.parametrize("key", ["tool_calls", "thinking", "name"])
@pytest.mark.parametrize("value", [None, "", [], {}, False, [None], {"name": None, "arguments": ""}, "[]"])
def test_an_empty_value_of_a_key_needs_no_word(tmp_path: Path, key: str, value: Any) -> None:
    assert talk(tmp_path, user("a"), reply("b", **{key: value})).notices.total == 0


def test_other_keys_are_counted_by_name_here_and_without_names_in_public(tmp_path: Path) -> None:
    records = [{"messages": [user("a", id=n, mood="sad" if n else ""), reply("b", id=0)]} for n in range(3)]
    notices = read(tmp_path, *records).notices
    assert [str(each) for each in notices.problems] == [
        "a.jsonl: line 1 has a key in a message that is not read: 'id'; also line 2, line 3",
        "a.jsonl: line 2 has a key in a message that is not read: 'mood'; also line 3",
    ]
    assert notices.public == ["the data: line 1 has a key in a message that is not read, and 4 more"]


@pytest.mark.parametrize("column", ["tools", "functions", "images", "audio"])
def test_tools_and_images_beside_a_conversation_are_an_error_unless_ignored(tmp_path: Path, column: str) -> None:
    record = {"messages": [user("a"), reply("b")], column: json.dumps(TOOL_CALL)}
    public, private = error(tmp_path, record)
    assert public.startswith(f" has {column!r} beside its conversation, which is not read; leave such")
    assert private == ""
    ignored = read(tmp_path, record, ignore_keys=[column]).notices
    assert ignored.public == [f"the data: line 1 has {column!r} beside its conversation, which is ignored"]
    for empty in ("[]", [], None):
        assert read(tmp_path, record | {column: empty}).notices.total == 0


def test_tools_beside_a_prompt_of_text_are_a_column_like_others(tmp_path: Path) -> None:
    found = read(tmp_path, {"prompt": "a", "completion": "b", "tools": "hammer"})
    assert [str(each) for each in found.notices.problems] == ["a.jsonl: 1 column is not read: 'tools'"]


def test_a_column_that_only_some_rows_use_is_unread_in_the_others(tmp_path: Path) -> None:
    pair = {"prompt": "a", "chosen": [user("x"), reply("b")], "rejected": [user("x"), reply("c")]}
    found = read(tmp_path, pair, kind="dpo")
    assert [str(each) for each in found.notices.problems] == ["a.jsonl: 1 column is not read: 'prompt'"]


# --- parts of a message


@pytest.mark.parametrize(
    "content",
    [["a", "b"], [{"type": "text", "text": "ab"}], [{"type": "text", "text": "a", "image_url": None}, "b"], "ab"],
)
def test_text_parts_of_a_message_are_joined(tmp_path: Path, content: Any) -> None:
    assert talk(tmp_path, user(content), reply(content)).rows == [Row("ab", "", "ab")]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "tool_use", "thinking"])
def test_a_part_that_is_no_text_is_an_error_with_its_type(tmp_path: Path, kind: str) -> None:
    messages = [user(["a", {"type": kind, kind: {"url": "SECRET"}}]), reply("b")]
    assert error(tmp_path, {"messages": messages}) == (
        ": the column 'messages' (messages), turn 1, "
        f"in its 'content' has a part of the type {kind!r} that is not text",
        "",
    )


def test_the_type_of_an_unknown_part_stays_here(tmp_path: Path) -> None:
    public, private = error(tmp_path, {"messages": [user([{"type": "SECRET"}]), reply("b")]})
    assert public.endswith("turn 1, in its 'content' has a part that is not text")
    assert private == "; its type is 'SECRET'"


# --- weights


@pytest.mark.parametrize("weight", [0, 0.0, False])
def test_a_reply_of_weight_0_is_outside_the_loss_and_counted(tmp_path: Path, weight: Any) -> None:
    found = talk(tmp_path, user("a"), reply("bad", weight=weight), user("again"), reply("good", weight=1))
    (row,) = found.rows
    assert isinstance(row, Row)
    assert (row.prompt, row.completion) == ("again", "good")
    assert row.before == (Turn("user", "a"), Turn("assistant", "bad", supervised=False))
    assert found.notices.public == ["the data: line 1 has a reply of weight 0, which the loss does not cover"]


def test_the_completion_is_the_last_reply_that_the_loss_covers_and_later_turns_are_counted(tmp_path: Path) -> None:
    found = talk(tmp_path, user("a"), reply("good", weight=True), user("b"), reply("bad", weight=0))
    assert found.rows == [Row("a", "", "good")]
    assert found.notices.public == [
        "the data: line 1 has a reply of weight 0, which the loss does not cover",
        "the data: line 1 has turns after the last reply that the loss covers, which are not read",
    ]
    only_bad = talk(tmp_path, user("a"), reply("bad", weight=0))
    assert (only_bad.rows, dict(only_bad.skipped)) == ([], {"no reply but those of weight 0": 1})


def test_the_owner_names_the_key_of_the_weight(tmp_path: Path) -> None:
    messages = [user("a", train=False), reply("bad", train=False), user("b"), reply("good", train=True)]
    (row,) = talk(tmp_path, *messages, weight="train").rows
    assert [turn.supervised for turn in row.before] == [True, False]
    public, _ = error(tmp_path, {"messages": messages})
    assert "turn 1, has 'train', which is not read; set weight = \"train\" if 0 or false takes a reply out" in public


@pytest.mark.parametrize("weight", [2, 0.5, -1, "1", [], "SECRET"])
@pytest.mark.parametrize("speaker", [user, reply])
def test_any_other_weight_is_an_error_without_its_value(tmp_path: Path, weight: Any, speaker: Any) -> None:
    public, private = error(tmp_path, {"messages": [user("a"), reply("b"), speaker("c", weight=weight)]})
    assert public == ": the column 'messages' (messages), turn 3, has a 'weight' that is neither 0 nor 1"
    assert private == ""


def test_the_weight_of_a_turn_that_is_no_reply_has_no_effect(tmp_path: Path) -> None:
    found = talk(tmp_path, user("a", weight=0), reply("b", weight=None))
    assert (found.rows, found.notices.total) == ([Row("a", "", "b")], 0)


# --- system prompts and roles

FRENCH = Turn("system", "Answer in French.")
SHAREGPT = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "bonjour"}]


@pytest.mark.parametrize("column", ["system", "system_prompt"])
@pytest.mark.parametrize(
    ("record", "kind", "row"),
    [
        ({"conversations": SHAREGPT}, "sft", Row("hello", "", "bonjour", (FRENCH,))),
        ({"prompt": "hello", "completion": "bonjour"}, "sft", Row("hello", "", "bonjour", (FRENCH,))),
        ({"instruction": "hello", "input": "x", "output": "bonjour"}, "sft", Row("hello", "x", "bonjour", (FRENCH,))),
        (
            {"prompt": "hello", "chosen": "bonjour", "rejected": "hi"},
            "dpo",
            Comparison("hello", "", ("bonjour", "hi"), (FRENCH,)),
        ),
        (
            {"chosen": [user("hello"), reply("bonjour")], "rejected": [user("hello"), reply("hi")]},
            "dpo",
            Comparison("hello", "", ("bonjour", "hi"), (FRENCH,)),
        ),
    ],
)
def test_a_column_of_system_prompts_is_recognised_and_put_first(
    tmp_path: Path, column: str, record: dict[str, Any], kind: str, row: Row | Comparison
) -> None:
    first_without = record | {column: None}
    found = read(tmp_path, first_without, record | {column: FRENCH.text}, record | {column: ""}, kind=kind)
    assert found.rows[1] == row
    assert [row.before for row in (found.rows[0], found.rows[2])] == [(), ()]
    assert found.notices.total == 0


def test_the_owner_names_the_column_of_system_prompts_or_reads_none(tmp_path: Path) -> None:
    record = {"prompt": "hello", "completion": "bonjour", "rule": FRENCH.text, "system": "linux"}
    found = read(tmp_path, record, system="rule")
    assert found.rows == [Row("hello", "", "bonjour", (FRENCH,))]
    assert [str(each) for each in found.notices.problems] == ["a.jsonl: 1 column is not read: 'system'"]
    assert read(tmp_path, record, system="").rows == [Row("hello", "", "bonjour")]
    *_, missing = scan_rows(source_of(tmp_path, record, system="rules"), find("sft"))
    assert (missing.place, missing.error) == ("", "no row has the column 'rules' (system)")


def test_a_system_prompt_in_a_column_and_another_in_a_turn_are_an_error(tmp_path: Path) -> None:
    turn = {"role": "system", "content": "SECRET"}
    record = {"messages": [turn, user("a"), reply("b")], "system": FRENCH.text}
    public, private = error(tmp_path, record)
    assert public.startswith(" has a system prompt in the column 'system' and another in a system turn; keep one")
    assert "SECRET" not in public + private
    same = read(tmp_path, record | {"system": "SECRET"})
    assert same.rows == [Row("a", "", "b", (Turn("system", "SECRET"),))]


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (("human", "model"), {}),
        (("Prompter", "Bot"), {}),
        (("USER", "chatgpt"), {}),
        (("Patient", "doctor"), {"roles": {"Patient": "user", "Doctor": "assistant"}}),
        (("bot", "human"), {"roles": {"bot": "user", "human": "assistant"}}),
    ],
)
def test_roles_have_the_names_that_are_well_known_or_that_the_owner_sets(
    tmp_path: Path, names: tuple[str, str], settings: dict[str, Any]
) -> None:
    messages = [{"role": name, "content": text} for name, text in zip(names, "ab", strict=True)]
    assert talk(tmp_path, *messages, **settings).rows == [Row("a", "", "b")]


def test_a_developer_turn_is_a_system_turn(tmp_path: Path) -> None:
    found = talk(tmp_path, {"role": "developer", "content": FRENCH.text}, user("a"), reply("b"))
    assert found.rows == [Row("a", "", "b", (FRENCH,))]


@pytest.mark.parametrize("role", ["tool", "function", "Observation"])
def test_a_role_of_tools_is_an_error_that_says_what_to_do(tmp_path: Path, role: str) -> None:
    messages = [user("a"), {"role": role, "content": "x"}, reply("b")]
    public, _ = error(tmp_path, {"messages": messages})
    name = role.lower()
    assert public == (
        f": the column 'messages' (messages), turn 2, has the role {name!r}, which is not read; leave such "
        f'conversations out, or read it as another: roles = {{ {name} = "user" }} in agent.toml'
    )
    assert read(tmp_path, {"messages": messages}, roles={name: "user"}).rows[0].before == (Turn("user", "a"),)


def test_an_unknown_role_is_told_here_and_not_in_public(tmp_path: Path) -> None:
    public, private = error(tmp_path, {"messages": [{"role": "SECRET", "content": "a"}]})
    known = "system, developer, user, human, prompter, assistant, gpt, chatgpt, model, bot"
    assert public.endswith(f'known are {known}; roles = {{ NAME = "user" }} in agent.toml reads it')
    assert private == "; it is 'SECRET'"


# --- other nestings


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"role": ["user", "assistant"], "content": ["hello", "hi"]},
            "holds a dict of lists; write a list of messages",
        ),
        (json.dumps([user("a"), reply("b")]), "holds messages as JSON text, or the like; write a"),
        (str([user("a"), reply("b")]), "holds messages as JSON text, or the like; write a list"),
        ([json.dumps(user("a")), json.dumps(reply("b"))], "holds a list of texts; write a list of messages"),
        (["a", "b"], "holds a list of texts; write a list of messages"),
        ([["user", "a"], ["assistant", "b"]], "holds a list of lists; write a list of messages"),
        ([user("a"), None], "holds a list of values that are not messages; write a list of messages"),
        (3, "holds a number, not messages"),
        (True, "holds true or false, not messages"),
    ],
)
def test_messages_of_another_nesting_are_an_error_that_says_what_to_write(
    tmp_path: Path, value: Any, message: str
) -> None:
    public, _ = error(tmp_path, {"messages": value})
    assert public.startswith(f": the column 'messages' (messages) {message}")


def test_a_map_of_arrow_is_an_error_that_says_what_to_write(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    kind = pyarrow.map_(pyarrow.string(), pyarrow.string())
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"messages": pyarrow.array([[("user", "a"), ("assistant", "b")]], kind)}), path)
    with pytest.raises(TaskFailed, match=r"row 1: the column 'messages' \(messages\) holds a list of .*; write a list"):
        read_rows(DataSource(path=path), find("sft"))


def test_nested_messages_of_parquet_are_read_whatever_keys_other_messages_have(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    messages = [user("a", name="ada"), reply("b", weight=1)]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"messages": messages, "tools": []}]), path)
    found = read_rows(DataSource(path=path), find("sft"))
    assert found.rows == [Row("a", "", "b")]
    assert found.notices.public == ["the data: row 1 has a key in a message that is not read"]


def test_messages_as_text_in_a_prompt_are_plain_text_and_noticed(tmp_path: Path) -> None:
    text = json.dumps([user("a")])
    found = read(tmp_path, {"prompt": text, "completion": "[1, 2]"})
    assert found.rows == [Row(text, "", "[1, 2]")]
    assert found.notices.public == [
        "the data: line 1 has messages as JSON text in the column 'prompt' (prompt), which are read as plain text"
    ]
