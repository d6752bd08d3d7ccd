"""Parses records into rows: instruction and output, chat messages, ShareGPT, transcripts, and preferences of these.

Error messages are sent to the coordinator. They contain the columns that the settings name, never the content of a
record.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from agent.data.parsing.conversations import is_transcript, last_prompt, parse_turns, until_last_reply, with_system
from agent.data.parsing.history import refuse_history, with_history
from agent.data.parsing.message_keys import check_columns
from agent.data.parsing.open_record import OpenRecord, RecordError, SkippedRecord
from agent.data.parsing.two_shapes import note_other_shape
from agent.data.rows import Comparison, Role, Row, Turn
from agent.data.source import DataSource
from shared.kinds import Kind


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


def parse_row(opened: OpenRecord, kind: Kind) -> Row | Comparison:
    """Parse a record by the columns that its source names, into a row as the kind of training needs it.

    Raises RecordError and SkippedRecord.
    """
    labels = tuple(_label(opened, opened.source.column(name), name) for name in kind.labels)
    parse = _comparison if kind.compares else _row
    row = parse(opened, kind, labels)
    check_columns(opened)
    return row


def _row(opened: OpenRecord, kind: Kind, labels: tuple[float, ...]) -> Row:
    source, role = opened.source, kind.completions[0]
    if source.messages is not None:
        refuse_history(opened, source.messages)
        turns = _turns(opened, source.messages, "messages", None)
    else:
        turns = with_history(opened, _turns(opened, source.prompt, "prompt", "user"))
        turns += _turns(opened, source.column(role), role, "assistant")
    turns = until_last_reply(opened, with_system(opened, turns))
    before, prompt = last_prompt(opened, turns[:-1])
    row = Row(prompt, _input(opened), turns[-1].text, before, labels=labels)
    note_other_shape(opened)
    return row


def _comparison(opened: OpenRecord, kind: Kind, labels: tuple[float, ...]) -> Comparison:
    source = opened.source
    columns = source.needed_columns(kind)
    for role in kind.completions:
        if source.messages == columns[role]:
            raise RecordError(
                f": the column {columns[role]!r} is set as both messages and {role}; give pairs their own data table"
            )
    has_prompt = columns["prompt"] in opened.record
    values = {role: opened.value(columns[role], role) for role in kind.completions}
    with_prompt = all(_is_conversation(value, has_prompt=has_prompt) for value in values.values())
    speaker: Role | None = None if with_prompt else "assistant"
    answers = [
        until_last_reply(opened, parse_turns(opened, value, columns[role], role, speaker))
        for role, value in values.items()
    ]
    if with_prompt:
        refuse_history(opened, columns[kind.completions[0]])
        shared, answers = _split_at_difference(answers)
    else:
        shared = with_history(opened, _turns(opened, columns["prompt"], "prompt", "user"))
    if not all(map(_is_reply, answers)):
        raise SkippedRecord("completions that differ before the last assistant turn")
    before, prompt = last_prompt(opened, with_system(opened, shared))
    return Comparison(prompt, _input(opened), tuple(turns[0].text for turns in answers), before, labels)


def _turns(opened: OpenRecord, column: str, role: str, speaker: Role | None) -> list[Turn]:
    return parse_turns(opened, opened.value(column, role), column, role, speaker)


def _is_reply(turns: list[Turn]) -> bool:
    return len(turns) == 1 and turns[0].role == "assistant"


def _is_conversation(value: object, *, has_prompt: bool) -> bool:
    """Return whether the value of a completion also holds the prompt. has_prompt: the record has a prompt column."""
    if isinstance(value, str):
        return not has_prompt and is_transcript(value)
    return isinstance(value, list) and len(value) > 1


def _split_at_difference(conversations: list[list[Turn]]) -> tuple[list[Turn], list[list[Turn]]]:
    """Return the turns that conversations share at their beginning, and the rest of each: at least one turn."""
    first = conversations[0]
    most = min(map(len, conversations)) - 1
    n_shared = next((i for i in range(most) if any(turns[i] != first[i] for turns in conversations)), most)
    return first[:n_shared], [turns[n_shared:] for turns in conversations]


def _input(opened: OpenRecord) -> str:
    return opened.optional_text(opened.source.input, "input")


def _label(opened: OpenRecord, column: str, role: str) -> float:
    """The value of a label column as a number. Text, as tables have it, is read like JSON."""
    value = opened.value(column, role)
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value.strip().lower())
    with suppress(OverflowError):  # a whole number beyond all floats
        if isinstance(value, bool | int | float) and math.isfinite(value):
            return float(value)
    raise RecordError(f": the column {column!r} ({role}) holds neither true nor false nor a number")
