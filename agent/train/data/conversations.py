"""Renders a row by a chat template, and finds each reply in the text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from agent.data.rows import Role, Row, Turn
from agent.errors import TaskFailed
from agent.train.data.chat_template import ChatTemplate
from agent.train.data.control_tokens import ControlTokens, bare
from agent.train.data.coverage import Found, Frame, find_reply
from agent.train.data.texts import Exchange, Omissions, Text

_FIRST_STAND_IN, _N_STAND_INS = 0xF0000, 0xFFFD
"""Characters for private use, which no template treats in a way of its own."""


def is_supervised(row: Row, turns: Sequence[Turn], number: int) -> bool:
    """Whether the loss covers a reply. It skips an earlier reply that is empty."""
    earlier = not row.only_last and turns[number].supervised and turns[number].text != ""
    return number == len(turns) - 1 or earlier


@dataclass(frozen=True)
class _Sample:
    """How a template renders conversations of some roles. missing: turns that it leaves out. frames: by reply."""

    missing: frozenset[int] = frozenset()
    frames: Mapping[int, Frame] | None = None


class ConversationRenderer:
    """Renders rows by one chat template."""

    def __init__(self, template: ChatTemplate, control: ControlTokens) -> None:
        self._template = template
        self._control = control
        self._samples: dict[tuple[Role, ...], _Sample] = {}

    def render(self, row: Row) -> Text:
        """Render *row*. Raises TaskFailed (data) if the template refuses it."""
        turns = row.turns
        conversation = _Conversation(self._template, tuple(turn.role for turn in turns), [turn.text for turn in turns])
        last = len(turns) - 1
        wanted = [i for i, turn in enumerate(turns) if turn.role == "assistant" and is_supervised(row, turns, i)]
        earlier = [i for i in wanted[:-1] if i > 0]  # nothing precedes a conversation's first turn
        spans = conversation.earlier_spans(earlier) or {}
        found = {i: self._find(conversation, i, span) for i, span in spans.items()}
        ended = {i: span for i, span in spans.items() if self._control.end(found[i].after)}
        spans_in_loss = ended | {last: conversation.last_span()}
        found[last] = self._find(conversation, last, spans_in_loss[last])
        exchanges, previous_end = [], 0
        for i, (start, end) in spans_in_loss.items():
            exchanges.append(
                Exchange(
                    conversation.text[previous_end:start],
                    conversation.text[start:end],
                    ended=self._control.end(found[i].after),
                )
            )
            previous_end = end
        turns_missing, parts_missing = self._missing(conversation, turns, set(wanted))
        omissions = Omissions(
            completion=not found[last].whole,
            whole_completion=found[last].none,
            replies=sum(not found[i].whole for i in ended),
            turns=turns_missing,
            turn_parts=parts_missing,
            rendered_differently=len(earlier) - len(spans),
            without_end=len(spans) - len(ended),
            without_prompt=len(wanted) - 1 - len(earlier),
        )
        return Text(tuple(exchanges), plain=False, omissions=omissions)

    def _find(self, conversation: "_Conversation", reply: int, span: tuple[int, int]) -> Found:
        start, end = span
        frame = (self._sample(conversation.roles).frames or {}).get(reply)
        answer = conversation.text[start:end]
        return find_reply(conversation.texts[reply], answer, frame, lambda: conversation.header(reply, start))

    def _missing(
        self, conversation: "_Conversation", turns: Sequence[Turn], wanted: set[int]
    ) -> tuple[frozenset[Role], frozenset[Role]]:
        """Roles of the turns, other than *wanted*, that the text lacks, and of those of which it lacks a part."""
        others = [i for i, turn in enumerate(turns) if i not in wanted and turn.text]
        left_out = self._sample(conversation.roles).missing
        text = bare(conversation.text)
        missing = {turns[i].role for i in others if i in left_out}
        parts = {turns[i].role for i in others if i not in left_out and bare(turns[i].text) not in text}
        return frozenset(missing), frozenset(parts)

    def _sample(self, roles: tuple[Role, ...]) -> _Sample:
        if roles not in self._samples:
            self._samples[roles] = _sampled(self._template, roles)
        return self._samples[roles]


def _sampled(template: ChatTemplate, roles: tuple[Role, ...]) -> _Sample:
    """Render a stand-in for each turn. A template that cannot take them tells nothing."""
    if len(roles) > _N_STAND_INS:
        return _Sample()
    texts = [chr(_FIRST_STAND_IN + number) for number in range(len(roles))]
    conversation = _Conversation(template, roles, texts)
    try:
        earlier = [i for i, role in enumerate(roles[:-1]) if role == "assistant" and i > 0]
        spans = (conversation.earlier_spans(earlier) or {}) | {len(roles) - 1: conversation.last_span()}
    except TaskFailed:
        return _Sample()
    frames = {}
    for i, (start, end) in spans.items():
        before, stand_in, after = conversation.text[start:end].partition(texts[i])
        if stand_in and texts[i] not in after:
            frames[i] = Frame(bare(before), bare(after))
    return _Sample(frozenset(i for i, text in enumerate(texts) if text not in conversation.text), frames)


class _Conversation:
    """A conversation and its prefixes, rendered. ``text``: the whole conversation."""

    def __init__(self, template: ChatTemplate, roles: tuple[Role, ...], texts: Sequence[str]) -> None:
        self.roles = roles
        self.texts = texts
        self._template = template
        self.text = self._prefix(len(texts))

    def earlier_spans(self, replies: Sequence[int]) -> dict[int, tuple[int, int]] | None:
        """The first and the last offset of each earlier reply, with the template's text for it.

        Returns None if the template renders a turn differently once other turns follow, without a thought for example.
        The text does not show how an earlier reply looked when it was the last.
        """
        spans = {}
        for i in replies:
            up_to_reply = self._prefix(i + 1).rstrip()
            if not self.text.startswith(up_to_reply):
                return None
            spans[i] = (self._reply_start(i, up_to_reply), len(up_to_reply))
        return spans

    def last_span(self) -> tuple[int, int]:
        """The same of the last reply. Text after the end marker (usually a newline) is never generated."""
        return self._reply_start(len(self.texts) - 1, self.text), len(self.text.rstrip())

    def header(self, reply: int, start: int) -> str:
        """What the generation prompt adds after the turns before a reply that starts at *start*."""
        return self.text[_n_shared(self._prefix(reply), self.text) : start]

    def _prefix(self, n_turns: int, *, generation_prompt: bool = False) -> str:
        return self._template.render(self.roles[:n_turns], self.texts[:n_turns], generation_prompt=generation_prompt)

    def _reply_start(self, reply: int, text: str) -> int:
        """The offset of a reply in *text*, which ends with that reply.

        Some templates render a prompt differently once it is answered: they add an empty thought, for example. The
        prompt is the beginning that both texts share.
        """
        return _n_shared(self._prefix(reply, generation_prompt=True), text)


def _n_shared(first: str, second: str) -> int:
    """The number of characters that two texts share at their beginning."""
    if second.startswith(first):
        return len(first)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
