"""Parses records into rows: instruction and output, chat messages, ShareGPT, transcripts, and preferences of these.

Error messages are sent to the coordinator. They contain the columns that the settings name, never the content of a
record.
"""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from agent.data.rows import Comparison, Role, Row, Turn
from agent.data.source import DataSource
from shared.kinds import Kind

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_MESSAGE_KEYS = (("role", "content"), ("from", "value"))
# a conversation as one text, "\n\nHuman: …\n\nAssistant: …" (Bai et al. 2022)
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_MAX_LISTED = 20


class RecordError(Exception):
    """A record that cannot be parsed. The text continues its place, such as "line 3".

    private: the rest of the message, which stays on this machine: it lists column names, which are content if a table
    lacks its header.
    """

    def __init__(self, text: str, private: str = "") -> None:
        super().__init__(text)
        self.private = private


class SkippedRecord(Exception):
    """A valid record without anything to train on. The text is the reason, and continues "a row with"."""


def detect_columns(source: DataSource, record: Mapping[str, Any], kind: Kind) -> DataSource:
    """Return *source* with the columns of a well-known shape if *record*, the first of the data, has that shape.

    Columns that the owner has set are never changed.
    """
    if source.messages is not None or source.prompt != "prompt":
        return source
    if kind.compares:
        if source.prompt in record:
            return source
        for column in ("conversations", "instruction"):
            if column in record:
                return source.model_copy(update={"prompt": column, "input": source.input or "input"})
        return source
    if source.completion in record:
        return source
    for column in ("messages", "conversations"):
        if column in record:
            return source.model_copy(update={"messages": column})
    if "instruction" in record and "output" in record:
        columns = {"prompt": "instruction", "input": source.input or "input", "completion": "output"}
        return source.model_copy(update=columns)
    return source


def parse_row(record: Mapping[str, Any], source: DataSource, kind: Kind) -> Row | Comparison:
    """Parse a record by the columns that *source* names, into a row as the kind of training needs it.

    Raises RecordError and SkippedRecord.
    """
    labels = tuple(_label(record, source.column(name), name) for name in kind.labels)
    if kind.compares:
        return _comparison(record, source, kind, labels)
    return _row(record, source, kind.completions[0], labels)


def _row(record: Mapping[str, Any], source: DataSource, role: str, labels: tuple[float, ...]) -> Row:
    if source.messages is not None:
        value = _value(record, source.messages, "messages")
        turns = _turns(value, source.messages, "messages", None)
    else:
        prompt_turns = _turns(_value(record, source.prompt, "prompt"), source.prompt, "prompt", "user")
        column = source.column(role)
        turns = [*prompt_turns, *_turns(_value(record, column, role), column, role, "assistant")]
    turns = _until_last_reply(turns)
    before, prompt = _last_prompt(turns[:-1])
    return Row(prompt, _input(record, source), turns[-1].text, before, labels=labels)


def _comparison(record: Mapping[str, Any], source: DataSource, kind: Kind, labels: tuple[float, ...]) -> Comparison:
    columns = source.columns(kind)
    for role in kind.completions:
        if source.messages == columns[role]:
            raise RecordError(
                f": the column {columns[role]!r} is set as both messages and {role}; give pairs their own data table"
            )
    has_prompt = columns["prompt"] in record
    values = {role: _value(record, columns[role], role) for role in kind.completions}
    with_prompt = all(_is_conversation(value, has_prompt=has_prompt) for value in values.values())
    answers = [
        _turns(value, columns[role], role, None if with_prompt else "assistant") for role, value in values.items()
    ]
    if with_prompt:
        shared, answers = _split_at_difference([_until_last_reply(turns) for turns in answers])
    else:
        shared = _turns(_value(record, columns["prompt"], "prompt"), columns["prompt"], "prompt", "user")
    if not all(map(_is_reply, answers)):
        raise SkippedRecord("completions that differ before the last assistant turn")
    before, prompt = _last_prompt(shared)
    return Comparison(prompt, _input(record, source), tuple(turns[0].text for turns in answers), before, labels)


def _is_reply(turns: list[Turn]) -> bool:
    return len(turns) == 1 and turns[0].role == "assistant"


def _is_conversation(value: object, *, has_prompt: bool) -> bool:
    """Return whether the value of a completion also holds the prompt. has_prompt: the record has a prompt column."""
    if isinstance(value, str):
        return not has_prompt and _is_transcript(value)
    return isinstance(value, list) and len(value) > 1


def _split_at_difference(conversations: list[list[Turn]]) -> tuple[list[Turn], list[list[Turn]]]:
    """Return the turns that conversations share at their beginning, and the rest of each: at least one turn."""
    first = conversations[0]
    most = min(map(len, conversations)) - 1
    n_shared = next((i for i in range(most) if any(turns[i] != first[i] for turns in conversations)), most)
    return first[:n_shared], [turns[n_shared:] for turns in conversations]


def _until_last_reply(turns: list[Turn]) -> list[Turn]:
    """Return the conversation up to its last assistant turn. Raises SkippedRecord if there is none."""
    end = next((i for i in range(len(turns), 0, -1) if turns[i - 1].role == "assistant"), 0)
    if end == 0:
        raise SkippedRecord("no assistant turn")
    return turns[:end]


def _last_prompt(turns: list[Turn]) -> tuple[tuple[Turn, ...], str]:
    """Return the turns before the last prompt, and its text. Raises SkippedRecord if the last turn is not a prompt."""
    if not turns or turns[-1].role != "user":
        raise SkippedRecord("an assistant turn that follows no user turn")
    if any(turn.role == "system" for turn in turns[1:]):
        raise SkippedRecord("a system turn that is not the first turn")
    return tuple(turns[:-1]), turns[-1].text


def _input(record: Mapping[str, Any], source: DataSource) -> str:
    value = record.get(source.input) if source.input is not None else None
    return "" if value is None else _text(value, f": the column {source.input!r} (input)")


def _label(record: Mapping[str, Any], column: str, role: str) -> float:
    """The value of a label column as a number. Text, as tables have it, is read like JSON."""
    value = _value(record, column, role)
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value.strip().lower())
    with suppress(OverflowError):  # a whole number beyond all floats
        if isinstance(value, bool | int | float) and math.isfinite(value):
            return float(value)
    raise RecordError(f": the column {column!r} ({role}) holds neither true nor false nor a number")


def _value(record: Mapping[str, Any], column: str, role: str) -> Any:
    if column not in record:
        raise RecordError(f" has no column {column!r} ({role})", f"; it has {list_columns(record)}")
    return record[column]


def _turns(value: object, column: str, role: str, speaker: Role | None) -> list[Turn]:
    """Parse a column into turns. It holds a list of messages, one message, or text.

    Args:
        value: the column's value.
        column: its name.
        role: what the settings use the column for, such as "prompt".
        speaker: whose turn a text is; None parses a text as a transcript.
    """
    where = f": the column {column!r} ({role})"
    if isinstance(value, dict):
        return [_message(value, where)]
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        return [_message(message, f"{where}, turn {number},") for number, message in enumerate(value, 1)]
    if speaker is not None:
        return [Turn(speaker, _text(value, where))]
    text = _text(value, where, wanted="messages")
    if not _is_transcript(text):
        raise RecordError(f"{where} holds neither messages nor a transcript")
    _, *parts = _SPEAKER.split(text)
    return [Turn(_SPEAKERS[name], text.strip()) for name, text in zip(parts[::2], parts[1::2], strict=True)]


def _is_transcript(text: str) -> bool:
    first, *parts = _SPEAKER.split(text)
    return not first.strip() and len(parts) > 0


def _message(message: Mapping[str, Any], where: str) -> Turn:
    for role, content in _MESSAGE_KEYS:
        if role in message and content in message:
            name = message[role]
            if not isinstance(name, str) or name.lower() not in _ROLES:
                raise RecordError(f"{where} has an unknown {role!r}; known are {', '.join(_ROLES)}")
            return Turn(_ROLES[name.lower()], _text(message[content], f"{where} in its {content!r}"))
    error = f"{where} has neither 'role' and 'content' nor 'from' and 'value'"
    raise RecordError(error, f"; it has {list_columns(message)}")


def _text(value: object, where: str, wanted: str = "text") -> str:
    if not isinstance(value, str):
        actual = "null" if value is None else type(value).__name__
        raise RecordError(f"{where} holds {actual}, not {wanted}")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can escape a lone surrogate
        raise RecordError(f"{where} holds half a character (a lone surrogate)") from None
    return value


def list_columns(columns: Mapping[str, Any]) -> str:
    """Return the names of the first columns for a message, shortened."""
    return ", ".join(repr(str(column)[:60]) for column in list(columns)[:_MAX_LISTED]) or "none"
