"""Parses a column into the turns of a conversation: a list of messages, one message, a text, or a transcript.

Error messages leave this machine. They contain the columns that the settings name, never the content of a record.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from agent.data.parsing.message_keys import check_keys, is_in_loss, role_of, text_of_content
from agent.data.parsing.open_record import OpenRecord, RecordError, SkippedRecord, list_columns, type_name
from agent.data.rows import Role, Turn

_MESSAGE_KEYS = (("role", "content"), ("from", "value"))
# a conversation as one text, "\n\nHuman: …\n\nAssistant: …" (Bai et al. 2022)
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_AS_OBJECTS = "write a list of messages, each an object with its 'role' and 'content'"


def parse_turns(opened: OpenRecord, value: object, column: str, role: str, speaker: Role | None) -> list[Turn]:
    """Parse a column into turns. Raises RecordError.

    Args:
        opened: the record.
        value: the column's value.
        column: its name.
        role: what the settings use the column for, such as "prompt".
        speaker: whose turn a text is; None parses a text as a transcript.
    """
    where = f": the column {column!r} ({role})"
    if isinstance(value, dict) and len(value) > 0 and all(isinstance(part, list) for part in value.values()):
        raise RecordError(f"{where} holds a dict of lists; {_AS_OBJECTS}")
    if isinstance(value, dict):
        opened.is_conversation = True
        return [_message(opened, value, where)]
    if isinstance(value, list):
        opened.is_conversation = True
        return [_message_of_list(opened, message, where, number) for number, message in enumerate(value, 1)]
    if speaker is not None:
        text = opened.text(value, where)
        if _holds_messages(text):
            opened.note(f" has messages as JSON text in the column {column!r} ({role}), which are read as plain text")
        return [Turn(speaker, text)]
    opened.is_conversation = True
    return _transcript(opened, value, where)


def is_transcript(text: str) -> bool:
    """Return whether a text is a whole conversation, marked by its speakers."""
    first, *parts = _SPEAKER.split(text)
    return not first.strip() and len(parts) > 0


def until_last_reply(opened: OpenRecord, turns: list[Turn]) -> list[Turn]:
    """Return the conversation up to its last reply that the loss may cover. Raises SkippedRecord if there is none."""
    replies = [turn for turn in turns if turn.role == "assistant"]
    ends = [i for i, turn in enumerate(turns, 1) if turn.role == "assistant" and turn.supervised]
    end = ends[-1] if ends else 0
    if end == 0:
        raise SkippedRecord("no reply but those of weight 0" if replies else "no assistant turn")
    if any(not turn.supervised for turn in replies):
        opened.note(" has a reply of weight 0, which the loss does not cover")
    if end < len(turns):
        opened.note(" has turns after the last reply that the loss covers, which are not read")
    return turns[:end]


def with_system(opened: OpenRecord, turns: list[Turn]) -> list[Turn]:
    """Return the turns with the record's system prompt before them. Raises RecordError if there are two prompts."""
    column, text = opened.system
    own = [turn.text for turn in turns if turn.role == "system"]
    if not text or own == [text]:
        return turns
    if own:
        remedy = 'keep one of the two, or set system = "" to read only the turn'
        raise RecordError(f" has a system prompt in the column {column!r} and another in a system turn; {remedy}")
    return [Turn("system", text), *turns]


def last_prompt(opened: OpenRecord, turns: list[Turn]) -> tuple[tuple[Turn, ...], str]:
    """Return the turns before the last prompt, and its text. Raises SkippedRecord if the last turn is not a prompt."""
    if not turns or turns[-1].role != "user":
        raise SkippedRecord("an assistant turn that follows no user turn")
    if any(turn.role == "system" for turn in turns[1:]):
        raise SkippedRecord("a system turn that is not the first turn")
    if not all(turn.text.strip() for turn in turns[:-1]):
        opened.note(" has an empty turn before its last prompt")
    return tuple(turns[:-1]), turns[-1].text


def _message_of_list(opened: OpenRecord, message: object, where: str, number: int) -> Turn:
    if isinstance(message, dict):
        return _message(opened, message, f"{where}, turn {number},")
    kind = "lists" if isinstance(message, list) else "texts" if isinstance(message, str) else None
    raise RecordError(f"{where} holds a list of {kind or 'values that are not messages'}; {_AS_OBJECTS}")


def _message(opened: OpenRecord, message: Mapping[str, Any], where: str) -> Turn:
    weight = opened.source.weight
    for role_key, content_key in _MESSAGE_KEYS:
        if message.get(role_key) is None:
            continue
        check_keys(opened, message, (role_key, content_key, weight), where)
        role = role_of(opened, message[role_key], role_key, where)
        supervised = is_in_loss(message, weight, where)
        if content_key in message:
            text = text_of_content(opened, message[content_key], f"{where} in its {content_key!r}")
            return Turn(role, text, supervised or role != "assistant")
    error = f"{where} has neither 'role' and 'content' nor 'from' and 'value'"
    raise RecordError(error, f"; it has {list_columns(message)}")


def _transcript(opened: OpenRecord, value: object, where: str) -> list[Turn]:
    if value is None:
        return []
    if not isinstance(value, str):
        raise RecordError(f"{where} holds {type_name(value)}, not messages")
    text = opened.text(value, where)
    if is_transcript(text):
        _, *parts = _SPEAKER.split(text)
        return [Turn(_SPEAKERS[name], text.strip()) for name, text in zip(parts[::2], parts[1::2], strict=True)]
    if text.lstrip()[:1] in ("[", "{"):
        raise RecordError(f"{where} holds messages as JSON text, or the like; {_AS_OBJECTS}")
    raise RecordError(f"{where} holds neither messages nor a transcript")


def _holds_messages(text: str) -> bool:
    """Whether a text is JSON of a message or of a list of messages."""
    if text.lstrip()[:1] not in ("[", "{") or not any(f'"{role}"' in text for role, _ in _MESSAGE_KEYS):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    messages = value if isinstance(value, list) else [value]
    return len(messages) > 0 and all(
        isinstance(message, dict) and any(role in message and content in message for role, content in _MESSAGE_KEYS)
        for message in messages
    )
