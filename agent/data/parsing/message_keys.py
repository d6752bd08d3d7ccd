"""The keys and roles of messages: which are read, which are refused, and which take a reply out of the loss.

Error messages leave this machine. They hold keys and roles of the lists here, never others.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from agent.data.parsing.open_record import OpenRecord, RecordError, has_content
from agent.data.rows import Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
_UNREAD_ROLES = frozenset(
    ("tool", "tool_call", "tool_response", "function", "function_call", "function_response", "observation", "ipython")
)
_CHANGE_THE_MEANING = frozenset(
    (
        *("tool_calls", "tool_call_id", "function_call", "tools", "functions"),
        *("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "thought"),
        *("refusal", "prefix", "documents", "attachments", "files"),
        *("audio", "image", "images", "image_url", "video", "videos"),
    )
)
_CHANGE_THE_LOSS = frozenset(("weight", "train", "training", "loss", "loss_weight"))
_COLUMNS_BESIDE = ("tools", "functions", "image", "images", "audio", "audios", "video", "videos")
_TEXT_PARTS = ("text", "input_text", "output_text")
_OTHER_PARTS = frozenset(
    (
        *("image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file", "document"),
        *("tool_use", "tool_call", "tool_result", "thinking", "redacted_thinking", "reasoning", "refusal"),
    )
)


def role_of(opened: OpenRecord, name: object, key: str, where: str) -> Role:
    """Return the role that a message's *name* stands for. Raises RecordError.

    key: the key of the role, for the message. where: the place in the record.
    """
    own = {own_name.lower(): role for own_name, role in opened.source.roles.items()}
    known = _ROLES | own
    lower = name.lower() if isinstance(name, str) else ""
    if lower in known:
        return known[lower]
    remedy = 'roles = { NAME = "user" } in agent.toml reads it'
    if lower in _UNREAD_ROLES:
        remedy = f'leave such conversations out, or read it as another: roles = {{ {lower} = "user" }} in agent.toml'
        raise RecordError(f"{where} has the role {lower!r}, which is not read; {remedy}")
    private = f"; it is {name[:60]!r}" if isinstance(name, str) else ""
    raise RecordError(f"{where} has an unknown {key!r}; known are {', '.join(known)}; {remedy}", private)


def check_keys(opened: OpenRecord, message: Mapping[str, Any], read: Iterable[str], where: str) -> None:
    """Notice each key of a message that is not read. Raises RecordError if the key changes what the message means.

    read: the keys that are read.
    """
    for key, value in message.items():
        if key in read:
            continue
        changes_loss = key in _CHANGE_THE_LOSS and value is not None  # false is no absence here
        if not (changes_loss or has_content(value)):
            continue
        if key in opened.source.ignore_keys:
            opened.note(f" has {key!r} in a message, which is ignored")
        elif changes_loss:
            remedy = f'weight = "{key}" if 0 or false takes a reply out of the loss, else ignore_keys = ["{key}"]'
            raise RecordError(f"{where} has {key!r}, which is not read; set {remedy}")
        elif key in _CHANGE_THE_MEANING:
            raise RecordError(f"{where} has {key!r}, which is not read; {_remedy(key)}")
        else:
            opened.note(" has a key in a message that is not read", f": {key[:60]!r}")


def check_columns(opened: OpenRecord) -> None:
    """Raise RecordError if a conversation has tools, images or sounds beside it, in a column of their own."""
    for column in _COLUMNS_BESIDE if opened.is_conversation else ():
        if column not in opened.unread:
            continue
        if column not in opened.source.ignore_keys:
            raise RecordError(f" has {column!r} beside its conversation, which is not read; {_remedy(column)}")
        opened.note(f" has {column!r} beside its conversation, which is ignored")
        opened.read.add(column)


def text_of_content(opened: OpenRecord, content: object, where: str) -> str:
    """Return the text of a message. Text parts of a list are joined. Raises RecordError."""
    if not isinstance(content, list):
        return opened.text(content, where)
    return "".join(_text_of_part(opened, part, where) for part in content)


def is_in_loss(message: Mapping[str, Any], key: str, where: str) -> bool:
    """Return whether the loss may cover a message, by its weight. Raises RecordError."""
    weight = message.get(key)
    if weight is None:
        return True
    if isinstance(weight, bool | int | float) and weight in (0, 1):
        return bool(weight)
    raise RecordError(f"{where} has a {key!r} that is neither 0 nor 1")


def _text_of_part(opened: OpenRecord, part: object, where: str) -> str:
    if not isinstance(part, dict):
        return opened.text(part, where)
    kind = part.get("type", "text")
    if kind not in _TEXT_PARTS or "text" not in part:
        known = isinstance(kind, str) and kind in _OTHER_PARTS
        private = "" if known else f"; its type is {str(kind)[:60]!r}"
        raise RecordError(f"{where} has a part{f' of the type {kind!r}' if known else ''} that is not text", private)
    check_keys(opened, part, ("type", "text"), where)
    return opened.text(part["text"], where)


def _remedy(key: str) -> str:
    return f'leave such conversations out, or read them without it: ignore_keys = ["{key}"] in agent.toml'
