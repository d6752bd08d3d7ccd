"""Notices a second conversation of one record, in a shape that its settings do not read."""

from agent.data.parsing.open_record import OpenRecord

_CONVERSATIONS = ("messages", "conversations")
_PAIRS = (("prompt", "completion"), ("instruction", "output"))


def note_other_shape(opened: OpenRecord) -> None:
    """Notice messages beside the completion that is read, or prompt and completion beside the messages."""
    if opened.source.messages is None:
        for column in _CONVERSATIONS:
            if column in opened.unread and isinstance(opened.record[column], list):
                remedy = f'messages = "{column}" reads it instead'
                opened.note(f" has a conversation in {column!r} beside its completion, which is not read; {remedy}")
                opened.read.add(column)
        return
    for prompt, completion in _PAIRS:
        if all(column in opened.unread for column in (prompt, completion)):
            opened.note(f" has {prompt!r} and {completion!r} beside its conversation, which are not read")
            opened.read |= {prompt, completion}
