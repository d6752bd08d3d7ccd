"""Renders a row by a chat template, and finds each reply in the text."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
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
    """How a template renders conversations of some roles, whatever their texts.

    Args:
        missing: turns that it leaves out.
        frames: what it puts around replies.
        unshared: number of last characters of the prompt that it leaves out once the prompt is answered, by reply.
        mixed: replies whose answers hold other turns.
    """

    missing: frozenset[int] = frozenset()
    frames: Mapping[int, Frame] = field(default_factory=dict)
    unshared: Mapping[int, int] = field(default_factory=dict)
    mixed: frozenset[int] = frozenset()


class ConversationRenderer:
    """Renders rows by one chat template."""

    def __init__(self, template: ChatTemplate, control: ControlTokens) -> None:
        self._template = template
        self._control = control
        self._samples: dict[tuple[Role, ...], _Sample] = {}

    def render(self, row: Row) -> Text:
        """Render *row*. Raises TaskFailed (data) if the template refuses it."""
        turns = row.turns
        roles = tuple(turn.role for turn in turns)
        sample = self._sample(roles)
        conversation = _Conversation(self._template, roles, [turn.text for turn in turns], sample.unshared)
        last = len(turns) - 1
        wanted = [i for i, turn in enumerate(turns) if turn.role == "assistant" and is_supervised(row, turns, i)]
        earlier = [i for i in wanted[:-1] if i > 0]  # nothing precedes a conversation's first turn
        spans = conversation.earlier_spans(earlier) or {}
        found = {i: conversation.find(i, span, sample.frames.get(i)) for i, span in spans.items()}
        ended = {i: span for i, span in spans.items() if self._control.end(found[i].after)}
        spans_in_loss = ended | {last: conversation.last_span()}
        found[last] = conversation.find(last, spans_in_loss[last], sample.frames.get(last))
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
        turns_missing, parts_missing = _missing(conversation, turns, set(wanted), sample.missing)
        omissions = Omissions(
            completion=not found[last].whole,
            whole_completion=found[last].none,
            replies=sum(not found[i].whole for i in ended),
            mixes_turns=any(i in sample.mixed for i in spans_in_loss),
            turns=turns_missing,
            turn_parts=parts_missing,
            rendered_differently=len(earlier) - len(spans),
            without_end=len(spans) - len(ended),
            without_prompt=len(wanted) - 1 - len(earlier),
        )
        return Text(tuple(exchanges), plain=False, omissions=omissions)

    def _sample(self, roles: tuple[Role, ...]) -> _Sample:
        if roles not in self._samples:
            self._samples[roles] = _sampled(self._template, roles)
        return self._samples[roles]


def _missing(
    conversation: "_Conversation", turns: Sequence[Turn], wanted: Container[int], left_out: Container[int]
) -> tuple[frozenset[Role], frozenset[Role]]:
    """Roles of the turns, other than *wanted*, that the text lacks, and of those of which it lacks a part."""
    others = [i for i, turn in enumerate(turns) if i not in wanted and turn.text]
    text = bare(conversation.text)
    missing = {turns[i].role for i in others if i in left_out}
    parts = {turns[i].role for i in others if i not in left_out and bare(turns[i].text) not in text}
    return frozenset(missing), frozenset(parts)


def _sampled(template: ChatTemplate, roles: tuple[Role, ...]) -> _Sample:
    """Render a stand-in for each turn. A template that cannot take them tells nothing."""
    if len(roles) > _N_STAND_INS:
        return _Sample()
    texts = [chr(_FIRST_STAND_IN + number) for number in range(len(roles))]
    try:
        conversation = _Conversation(template, roles, texts, {})
        earlier = [i for i, role in enumerate(roles[:-1]) if role == "assistant" and i > 0]
        spans = (conversation.earlier_spans(earlier) or {}) | {len(roles) - 1: conversation.last_span()}
    except TaskFailed:
        return _Sample()
    answers = {i: conversation.text[start:end] for i, (start, end) in spans.items()}
    frames = {}
    for i, answer in answers.items():
        before, _, after = answer.partition(texts[i])
        frames[i] = Frame(bare(before), bare(after))
    return _Sample(
        missing=frozenset(i for i, text in enumerate(texts) if text not in conversation.text),
        frames={i: frame for i, frame in frames.items() if texts[i] not in frame.after},
        unshared=conversation.unshared,
        mixed=frozenset(
            i for i, answer in answers.items() if any(text in answer for text in texts if text != texts[i])
        ),
    )


class _Conversation:
    """A conversation and its prefixes, rendered.

    text: the whole conversation. unshared: see ``_Sample``; of the replies whose start was asked for.
    """

    def __init__(
        self,
        template: ChatTemplate,
        roles: tuple[Role, ...],
        texts: Sequence[str],
        usual: Mapping[int, int],
    ) -> None:
        """Raises TaskFailed (data) if the template refuses the turns. usual: ``unshared`` of such conversations."""
        self._roles = roles
        self._texts = texts
        self._template = template
        self._usual = usual
        self.unshared: dict[int, int] = {}
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
        return self._reply_start(len(self._texts) - 1, self.text), len(self.text.rstrip())

    def find(self, reply: int, span: tuple[int, int], frame: Frame | None) -> Found:
        """Find the text of a reply in the template's text for it."""
        start, end = span
        return find_reply(self._texts[reply], self.text[start:end], frame, lambda: self._header(reply, start))

    def _header(self, reply: int, start: int) -> str:
        """What the generation prompt adds after the turns before a reply that starts at *start*."""
        return self.text[_n_shared(self._prefix(reply), self.text) : start]

    def _prefix(self, n_turns: int, *, generation_prompt: bool = False) -> str:
        return self._template.render(self._roles[:n_turns], self._texts[:n_turns], generation_prompt=generation_prompt)

    def _reply_start(self, reply: int, text: str) -> int:
        """The offset of a reply in *text*, which ends with that reply.

        Some templates render a prompt differently once it is answered: they add an empty thought, for example. The
        prompt is the beginning that both texts share, unless a reply begins like the rest of the prompt by chance.
        """
        prompt = self._prefix(reply, generation_prompt=True)
        shared = _n_shared(prompt, text)
        if shared < len(prompt):
            shared = min(shared, len(prompt) - self._usual.get(reply, 0))
        self.unshared[reply] = len(prompt) - shared
        return shared


def _n_shared(first: str, second: str) -> int:
    """The number of characters that two texts share at their beginning."""
    if second.startswith(first):
        return len(first)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
