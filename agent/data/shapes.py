"""From a record to a row: instruction and output, chat messages, ShareGPT, transcripts, and preferences of these.

Messages say the columns that the settings name, never what stands in a record: they leave the building.
"""

import re
from collections.abc import Mapping
from typing import Any

from agent.data.rows import Pair, Role, Row, Turn
from agent.settings import DataSource
from shared.campaign import TrainingKind

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_MESSAGE_KEYS = (("role", "content"), ("from", "value"))
# Bai et al. 2022: a conversation as one text, "\n\nHuman: …\n\nAssistant: …".
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_LISTED = 20


class Wrong(Exception):
    """A record that cannot be read. The text goes on where "line 3" ends. here: goes on after it, and stays on this
    machine: the names of columns are data where a table lacks its header."""

    def __init__(self, text: str, here: str = "") -> None:
        super().__init__(text)
        self.here = here


class LeftOut(Exception):
    """A record that can be read, and has nothing to learn. The text goes on where "a row with" ends."""


def recognised(source: DataSource, record: Mapping[str, Any], kind: TrainingKind) -> DataSource:
    """*source* with the columns of a well-known shape, where its own are the default ones and *record*, the first of
    the data, has another shape."""
    if source.messages is not None or source.prompt != "prompt":
        return source
    if kind == "dpo":
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


def row_of(record: Mapping[str, Any], source: DataSource, kind: TrainingKind) -> Row | Pair:
    """The row of a record by the columns that *source* names: a pair for dpo. Raises Wrong and LeftOut."""
    return _pair(record, source) if kind == "dpo" else _row(record, source)


def _row(record: Mapping[str, Any], source: DataSource) -> Row:
    if source.messages is not None:
        value = _value(record, source.messages, "messages")
        turns = _turns(value, source.messages, "messages", None)
    else:
        asked = _turns(_value(record, source.prompt, "prompt"), source.prompt, "prompt", "user")
        column = source.completion
        turns = [*asked, *_turns(_value(record, column, "completion"), column, "completion", "assistant")]
    turns = _answered(turns)
    before, prompt = _last_prompt(turns[:-1])
    return Row(prompt, _input(record, source), turns[-1].text, before)


def _pair(record: Mapping[str, Any], source: DataSource) -> Pair:
    columns = source.columns("dpo")
    for role in ("chosen", "rejected"):
        if source.messages == columns[role]:
            raise Wrong(f": the column {columns[role]!r} is both messages and {role}; a pair needs a table of its own")
    asks = columns["prompt"] in record
    values = {role: _value(record, columns[role], role) for role in ("chosen", "rejected")}
    whole = all(_is_conversation(value, alone=not asks) for value in values.values())
    chosen, rejected = (
        _turns(value, columns[role], role, None if whole else "assistant") for role, value in values.items()
    )
    if whole:
        shared, chosen, rejected = _parted(_answered(chosen), _answered(rejected))
    else:
        shared = _turns(_value(record, columns["prompt"], "prompt"), columns["prompt"], "prompt", "user")
    if not (_is_reply(chosen) and _is_reply(rejected)):
        raise LeftOut("sides that part before the last reply")
    before, prompt = _last_prompt(shared)
    return Pair(prompt, _input(record, source), chosen[0].text, rejected[0].text, before)


def _is_reply(turns: list[Turn]) -> bool:
    return len(turns) == 1 and turns[0].role == "assistant"


def _is_conversation(value: object, *, alone: bool) -> bool:
    """Whether a side holds its prompt too. alone: the record has no column of the prompt."""
    if isinstance(value, str):
        return alone and _is_transcript(value)
    return isinstance(value, list) and len(value) > 1


def _parted(chosen: list[Turn], rejected: list[Turn]) -> tuple[list[Turn], list[Turn], list[Turn]]:
    """What two conversations share from their beginning, and the rest of each, which is at least one turn."""
    most = min(len(chosen), len(rejected)) - 1
    shared = next((i for i in range(most) if chosen[i] != rejected[i]), most)
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _answered(turns: list[Turn]) -> list[Turn]:
    """The conversation up to its last reply."""
    ends = next((i for i in range(len(turns), 0, -1) if turns[i - 1].role == "assistant"), 0)
    if ends == 0:
        raise LeftOut("no reply of the assistant")
    return turns[:ends]


def _last_prompt(turns: list[Turn]) -> tuple[tuple[Turn, ...], str]:
    """The turns before the last prompt, and its text."""
    if not turns or turns[-1].role != "user":
        raise LeftOut("a reply that follows no turn of the user")
    if any(turn.role == "system" for turn in turns[1:]):
        raise LeftOut("a system turn that is not the first")
    return tuple(turns[:-1]), turns[-1].text


def _input(record: Mapping[str, Any], source: DataSource) -> str:
    value = record.get(source.input) if source.input is not None else None
    return "" if value is None else _text(value, f": the column {source.input!r} (input)")


def _value(record: Mapping[str, Any], column: str, role: str) -> Any:
    if column not in record:
        raise Wrong(f" has no column {column!r} ({role})", f"; it has {listed(record)}")
    return record[column]


def _turns(value: object, column: str, role: str, speaker: Role | None) -> list[Turn]:
    """The turns that a column holds: a list of messages, one message, or text of *speaker*; without one, a
    transcript."""
    where = f": the column {column!r} ({role})"
    if isinstance(value, dict):
        return [_message(value, where)]
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return [_message(one, f"{where}, turn {number},") for number, one in enumerate(value, 1)]
    if speaker is not None:
        return [Turn(speaker, _text(value, where))]
    text = _text(value, where, wanted="messages")
    if not _is_transcript(text):
        raise Wrong(f"{where} holds neither messages nor a transcript")
    _, *parts = _SPEAKER.split(text)
    return [Turn(_SPEAKERS[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)]


def _is_transcript(text: str) -> bool:
    first, *parts = _SPEAKER.split(text)
    return not first.strip() and len(parts) > 0


def _message(message: Mapping[str, Any], where: str) -> Turn:
    for role, content in _MESSAGE_KEYS:
        if role in message and content in message:
            who = message[role]
            if not isinstance(who, str) or who.lower() not in _ROLES:
                raise Wrong(f"{where} has a {role!r} that is none of {', '.join(_ROLES)}")
            return Turn(_ROLES[who.lower()], _text(message[content], f"{where} in its {content!r}"))
    neither = f"{where} has neither 'role' and 'content' nor 'from' and 'value'"
    raise Wrong(neither, f"; it has {listed(message)}")


def _text(value: object, where: str, wanted: str = "text") -> str:
    if not isinstance(value, str):
        held = "null" if value is None else type(value).__name__
        raise Wrong(f"{where} holds {held}, not {wanted}")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can escape half of a character
        raise Wrong(f"{where} holds half a character (a lone surrogate)") from None
    return value


def listed(columns: Mapping[str, Any]) -> str:
    """The names of columns, as far as a message has room."""
    return ", ".join(repr(str(column)[:60]) for column in list(columns)[:_LISTED]) or "none"
