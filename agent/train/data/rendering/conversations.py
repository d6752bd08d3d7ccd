"""Renders a row by a chat template, and finds each reply in the text."""

from collections.abc import Container, Sequence

from agent.data.replies import is_supervised, n_unprompted
from agent.data.rows import Role, Row, Turn
from agent.train.data.control_tokens import ControlTokens, bare
from agent.train.data.rendering.chat_template import ChatTemplate
from agent.train.data.rendering.conversation import Conversation
from agent.train.data.rendering.template_sample import TemplateSample
from agent.train.data.rendering.texts import Exchange, Omissions, Text


class ConversationRenderer:
    """Renders rows by one chat template."""

    def __init__(self, template: ChatTemplate, control: ControlTokens) -> None:
        self._template = template
        self._control = control
        self._samples: dict[tuple[Role, ...], TemplateSample] = {}

    def render(self, row: Row) -> Text:
        """Render *row*. Raises TaskFailed (data) if the template refuses it."""
        turns = row.turns
        roles = tuple(turn.role for turn in turns)
        sample = self._sample(roles)
        conversation = Conversation(self._template, roles, [turn.text for turn in turns], sample.borders)
        last = len(turns) - 1
        wanted = [i for i, turn in enumerate(turns) if turn.role == "assistant" and is_supervised(row, turns, i)]
        earlier = wanted[:-1]
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
        spaced = {i for i, span in spans_in_loss.items() if found[i].whole and not conversation.holds(i, span)}
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
            without_prompt=n_unprompted(row, turns),
            completion_spaced=last in spaced,
            replies_spaced=len(spaced - {last}),
            header_in_answer=sample.header_in_answer,
        )
        return Text(tuple(exchanges), plain=False, omissions=omissions)

    def _sample(self, roles: tuple[Role, ...]) -> TemplateSample:
        if roles not in self._samples:
            self._samples[roles] = TemplateSample.of(self._template, self._control, roles)
        return self._samples[roles]


def _missing(
    conversation: Conversation, turns: Sequence[Turn], wanted: Container[int], left_out: Container[int]
) -> tuple[frozenset[Role], frozenset[Role]]:
    """Roles of the turns, other than *wanted*, that the text lacks, and of those of which it lacks a part."""
    others = [i for i, turn in enumerate(turns) if i not in wanted and turn.text]
    text = bare(conversation.text)
    missing = {turns[i].role for i in others if i in left_out}
    parts = {turns[i].role for i in others if i not in left_out and bare(turns[i].text) not in text}
    return frozenset(missing), frozenset(parts)
