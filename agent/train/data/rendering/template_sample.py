"""How a chat template renders conversations of some roles, whatever their texts: seen from stand-ins for the texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.data.rows import Role
from agent.errors import TaskFailed
from agent.train.data.control_tokens import ControlTokens, bare
from agent.train.data.rendering.chat_template import ChatTemplate
from agent.train.data.rendering.conversation import Borders, Conversation
from agent.train.data.rendering.coverage import Frame

_FIRST_STAND_IN, _N_STAND_INS = 0xF0000, 0xFFFD
"""Characters for private use, which no template treats in a way of its own."""


@dataclass(frozen=True)
class TemplateSample:
    """What the stand-ins show.

    Args:
        missing: turns that the template leaves out.
        frames: what it puts around replies.
        borders: what it does at the borders of the conversation.
        mixed: replies whose answers hold other turns.
        header_in_answer: whether it has no generation prompt, but puts something before a reply, which then is part of
            the answer.
    """

    missing: frozenset[int] = frozenset()
    frames: Mapping[int, Frame] = field(default_factory=dict)
    borders: Borders = field(default_factory=Borders)
    mixed: frozenset[int] = frozenset()
    header_in_answer: bool = False

    @classmethod
    def of(cls, template: ChatTemplate, control: ControlTokens, roles: tuple[Role, ...]) -> "TemplateSample":
        """Render a stand-in for each turn. A template that cannot take them tells nothing."""
        if len(roles) > _N_STAND_INS:
            return cls()
        try:
            return _sampled(template, control, roles)
        except TaskFailed:
            return cls()


def _sampled(template: ChatTemplate, control: ControlTokens, roles: tuple[Role, ...]) -> TemplateSample:
    texts = [chr(_FIRST_STAND_IN + number) for number in range(len(roles))]
    last = len(roles) - 1
    whole = Conversation(template, roles, texts, Borders())
    prompt = whole.prefix(last, generation_prompt=True)
    opening = _opening(whole.text.rpartition(texts[last])[2], prompt, control)
    conversation = Conversation(template, roles, texts, Borders(opening=opening))
    earlier = [i for i, role in enumerate(roles[:-1]) if role == "assistant" and i > 0]
    spans = (conversation.earlier_spans(earlier) or {}) | {last: conversation.last_span()}
    answers = {i: conversation.text[start:end] for i, (start, end) in spans.items()}
    frames = {}
    for i, answer in answers.items():
        before, _, after = answer.partition(texts[i])
        frames[i] = Frame(bare(before), bare(after))
    return TemplateSample(
        missing=frozenset(i for i, text in enumerate(texts) if text not in conversation.text),
        frames={i: frame for i, frame in frames.items() if texts[i] not in frame.after},
        borders=Borders(conversation.unshared, opening),
        mixed=frozenset(
            i for i, answer in answers.items() if any(text in answer for text in texts if text != texts[i])
        ),
        header_in_answer=prompt == whole.prefix(last) and frames[last].before != "",
    )


def _opening(after_reply: str, prompt: str, control: ControlTokens) -> str:
    """What follows the end marker of the last reply, if every prompt ends with it too: the beginning of a turn."""
    rest = control.after_end(after_reply).strip()
    return rest if rest and prompt.rstrip().endswith(rest) else ""
