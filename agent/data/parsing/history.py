"""Parses the turns before a prompt that a record keeps in a column of their own: pairs of a question and its answer.

Error messages leave this machine. They contain the columns that the settings name, never the content of a record.
"""

from typing import Any

from agent.data.parsing.conversations import parse_turns
from agent.data.parsing.open_record import OpenRecord, RecordError
from agent.data.rows import Turn

_HISTORY = "history"


def with_history(opened: OpenRecord, prompt: list[Turn]) -> list[Turn]:
    """Return the turns of the record's history, and those of its prompt after them. Raises RecordError."""
    column = history_column(opened)
    history = _turns(opened, column) if column else []
    if history and len(prompt) > 1:
        raise RecordError(
            f" has earlier turns in the column {column!r} and in its prompt; keep one of the two, or set history = "
            '"" to read only the prompt'
        )
    return [*history, *prompt]


def refuse_history(opened: OpenRecord, column: str) -> None:
    """Raise RecordError if the settings name a history for a whole conversation, which is in *column*."""
    if opened.source.history:
        raise RecordError(f": the column {column!r} holds a whole conversation; remove the setting history")


def history_column(opened: OpenRecord) -> str:
    """Return the column of the record's history; empty if there is none."""
    source = opened.source
    if source.history is not None:
        return source.history if source.history in opened.record else ""
    named = {source.prompt, source.input, source.completion, source.chosen, source.rejected, source.system}
    value = opened.record.get(_HISTORY)
    # a text of this name may be anything, such as that of a patient
    holds_turns = isinstance(value, list) and all(isinstance(part, list | dict) for part in value)
    return _HISTORY if holds_turns and _HISTORY not in named else ""


def _turns(opened: OpenRecord, column: str) -> list[Turn]:
    value = opened.value(column, _HISTORY)
    where = f": the column {column!r} ({_HISTORY})"
    if value is None or value == "":
        return []
    if not isinstance(value, list) or not all(isinstance(part, list | dict) for part in value):
        raise RecordError(f"{where} holds neither a list of [question, answer] nor a list of messages")
    if any(isinstance(part, dict) for part in value):
        return parse_turns(opened, value, column, _HISTORY, None)
    return [turn for number, pair in enumerate(value, 1) for turn in _pair(opened, pair, f"{where}, pair {number},")]


def _pair(opened: OpenRecord, pair: list[Any], where: str) -> list[Turn]:
    if len(pair) != 2:
        counted = "1 part" if len(pair) == 1 else f"{len(pair)} parts"
        raise RecordError(f"{where} has {counted}, not a question and its answer")
    question, answer = (opened.text(text, where) for text in pair)
    return [Turn("user", question), Turn("assistant", answer)]
