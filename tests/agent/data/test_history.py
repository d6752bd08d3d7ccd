"""Earlier turns in a column of their own, and records that hold two conversations."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent.data.reading import read_rows
from agent.data.rows import Comparison, Row, Turn
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find
from tests.agent.data.test_messages import source_of

PAIRS = [["q1", "a1"], ["q2", "a2"]]
BEFORE = (Turn("user", "q1"), Turn("assistant", "a1"), Turn("user", "q2"), Turn("assistant", "a2"))
MESSAGES = [{"role": turn.role, "content": turn.text} for turn in BEFORE]
ALPACA = {"instruction": "i", "input": "x", "output": "o"}


def refusal(source: DataSource, kind: str = "sft") -> str:
    with pytest.raises(TaskFailed) as caught:
        read_rows(source, find(kind))
    return caught.value.failure.message


@pytest.mark.parametrize("history", [PAIRS, MESSAGES])
def test_pairs_or_messages_in_history_are_the_turns_before_the_prompt(tmp_path: Path, history: Any) -> None:
    found = read_rows(source_of(tmp_path, ALPACA | {"history": history}), find("sft"))
    assert (found.rows, found.notices.total) == ([Row("i", "x", "o", BEFORE)], 0)
    record = {"question": "i", "answer": "o", "system": "be kind", "talk": history}
    source = source_of(tmp_path, record, prompt="question", completion="answer", history="talk")
    assert read_rows(source, find("sft")).rows == [Row("i", "", "o", (Turn("system", "be kind"), *BEFORE))]


def test_a_pair_of_completions_has_a_history_too(tmp_path: Path) -> None:
    record = {"instruction": "i", "chosen": "a", "rejected": "b", "history": PAIRS}
    assert read_rows(source_of(tmp_path, record), find("dpo")).rows == [Comparison("i", "", ("a", "b"), BEFORE)]


@pytest.mark.parametrize("history", [[], None, ""])
def test_an_empty_history_is_none(tmp_path: Path, history: Any) -> None:
    found = read_rows(source_of(tmp_path, ALPACA | {"history": history}, ALPACA), find("sft"))
    assert (found.rows, found.notices.total) == ([Row("i", "x", "o")] * 2, 0)
    named = source_of(tmp_path, ALPACA | {"talk": history}, ALPACA, history="talk")
    assert read_rows(named, find("sft")).rows == [Row("i", "x", "o")] * 2


@pytest.mark.parametrize("history", ["a patient's history", ["q1", "a1"], {"q": "a"}, 3])
def test_a_history_that_holds_no_turns_is_a_column_that_is_not_read_unless_it_is_named(
    tmp_path: Path, history: Any
) -> None:
    source = source_of(tmp_path, ALPACA | {"history": history})
    found = read_rows(source, find("sft"))
    assert found.rows == [Row("i", "x", "o")]
    assert [str(each) for each in found.notices.problems] == ["a.jsonl: 1 column is not read: 'history'"]
    message = "holds neither a list of [question, answer] nor a list of messages"
    assert message in refusal(source.model_copy(update={"history": "history"}))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([["q", "a"], ["SECRET"]], ", pair 2, has 1 part, not a question and its answer"),
        ([["q", "a", "SECRET"]], ", pair 1, has 3 parts, not a question and its answer"),
        ([["q", 3]], ", pair 1, holds a number, not text; numbers = true reads it as text"),
        ([["q", ["SECRET"]]], ", pair 1, holds a list, not text"),
        ([{"role": "SECRET", "content": "x"}], ", turn 1, has an unknown 'role'"),
        ([["q", "a"], {"role": "user", "content": "SECRET"}], " holds a list of lists"),
    ],
)
def test_a_broken_history_is_an_error_that_never_quotes_it(tmp_path: Path, history: Any, message: str) -> None:
    found = refusal(source_of(tmp_path, ALPACA | {"history": history}))
    assert f"line 1: the column 'history' (history){message}" in found
    assert "SECRET" not in found


def test_a_history_beside_a_prompt_of_several_turns_is_an_error(tmp_path: Path) -> None:
    record = {"prompt": [*MESSAGES, {"role": "user", "content": "q"}], "completion": "a", "history": PAIRS}
    source = source_of(tmp_path, record)
    assert "has earlier turns in the column 'history' and in its prompt; keep one of the two" in refusal(source)
    (row,) = read_rows(source.model_copy(update={"history": ""}), find("sft")).rows
    assert row == Row("q", "", "a", BEFORE)


def test_a_history_that_no_row_has_and_one_beside_messages_are_errors(tmp_path: Path) -> None:
    assert "no row has the column 'talk' (history)" in refusal(source_of(tmp_path, ALPACA, history="talk"))
    with pytest.raises(ValidationError, match="history: messages names a whole conversation"):
        DataSource(path=Path("a.jsonl"), messages="talk", history="before")


@pytest.mark.parametrize(
    ("record", "kind", "column"),
    [
        ({"messages": MESSAGES}, "sft", "messages"),
        ({"chosen": MESSAGES, "rejected": [*MESSAGES[:3], {"role": "assistant", "content": "b"}]}, "dpo", "chosen"),
    ],
)
def test_a_history_that_is_set_for_conversations_that_are_whole_is_an_error(
    tmp_path: Path, record: dict[str, Any], kind: str, column: str
) -> None:
    message = refusal(source_of(tmp_path, record | {"talk": PAIRS}, history="talk"), kind)
    assert f"the column {column!r} (" not in message
    assert f"line 1: the column {column!r} holds a whole conversation; remove the setting history" in message


# --- two conversations in one record


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_messages_beside_the_completion_that_is_read_are_noticed_in_words(tmp_path: Path, column: str) -> None:
    source = source_of(tmp_path, {"prompt": "p", "completion": "c", column: MESSAGES})
    found = read_rows(source, find("sft"))
    assert found.rows == [Row("p", "", "c")]
    assert found.notices.public == [
        f"the data: line 1 has a conversation in {column!r} beside its completion, which is not read; "
        f'messages = "{column}" reads it instead'
    ]
    other = read_rows(source.model_copy(update={"messages": column}), find("sft"))
    assert other.rows == [Row("q2", "", "a2", BEFORE[:2])]
    assert other.notices.public == [
        "the data: line 1 has 'prompt' and 'completion' beside its conversation, which are not read"
    ]


def test_a_prompt_alone_beside_messages_is_a_column_that_is_not_read(tmp_path: Path) -> None:
    notices = read_rows(source_of(tmp_path, {"prompt": "q1", "messages": MESSAGES}), find("sft")).notices
    assert notices.public == ["the data: 1 column is not read"]
