"""A conversation as a chat template renders it, and where its replies are in the text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from agent.data.rows import Role
from agent.train.data.rendering.chat_template import ChatTemplate
from agent.train.data.rendering.coverage import Found, Frame, find_reply


@dataclass(frozen=True)
class Borders:
    """What a template does at the borders of conversations of some roles.

    Args:
        unshared: number of last characters of the prompt that it leaves out once the prompt is answered, by reply.
        opening: the beginning of a further turn, with which it ends every text; empty if it does not.
    """

    unshared: Mapping[int, int] = field(default_factory=dict)
    opening: str = ""


class Conversation:
    """A conversation and its prefixes, rendered.

    text: the whole conversation. unshared: see ``Borders``; of the replies whose start was asked for.
    """

    def __init__(
        self,
        template: ChatTemplate,
        roles: tuple[Role, ...],
        texts: Sequence[str],
        usual: Borders,
    ) -> None:
        """Raises TaskFailed (data) if the template refuses the turns. usual: the borders of such conversations."""
        self._roles = roles
        self._texts = texts
        self._template = template
        self._usual = usual
        self.unshared: dict[int, int] = {}
        self.text = self.prefix(len(texts))

    def prefix(self, n_turns: int, *, generation_prompt: bool = False) -> str:
        """The text of the first turns alone, with the generation prompt after them if requested."""
        return self._template.render(self._roles[:n_turns], self._texts[:n_turns], generation_prompt=generation_prompt)

    def earlier_spans(self, replies: Sequence[int]) -> dict[int, tuple[int, int]] | None:
        """The first and the last offset of each earlier reply, with the template's text for it.

        Returns None if the template renders a turn differently once other turns follow, without a thought for example.
        The text does not show how an earlier reply looked when it was the last.
        """
        spans = {}
        for i in replies:
            up_to_reply = self._closed(self.prefix(i + 1))
            if not self.text.startswith(up_to_reply):
                return None
            spans[i] = (self._reply_start(i, up_to_reply), len(up_to_reply))
        return spans

    def last_span(self) -> tuple[int, int]:
        """The same of the last reply. Text after the end marker (usually a newline) is never generated."""
        return self._reply_start(len(self._texts) - 1, self.text), len(self._closed(self.text))

    def find(self, reply: int, span: tuple[int, int], frame: Frame | None) -> Found:
        """Find the text of a reply in the template's text for it."""
        start, end = span
        return find_reply(self._texts[reply], self.text[start:end], frame, lambda: self._header(reply, start))

    def holds(self, reply: int, span: tuple[int, int]) -> bool:
        """Whether the template's text for a reply, or that with its header, holds the reply character by character."""
        start, end = span
        text, answer = self._texts[reply], self.text[start:end]
        return text in answer or text in self._header(reply, start) + answer

    def _header(self, reply: int, start: int) -> str:
        """What the generation prompt adds after the turns before a reply that starts at *start*."""
        return self.text[_n_shared(self.prefix(reply), self.text) : start]

    def _closed(self, text: str) -> str:
        """*text* up to the end of its last turn."""
        return text.rstrip().removesuffix(self._usual.opening).rstrip()

    def _reply_start(self, reply: int, text: str) -> int:
        """The offset of a reply in *text*, which ends with that reply.

        Some templates render a prompt differently once it is answered: they add an empty thought, for example. The
        prompt is the beginning that both texts share, unless a reply begins like the rest of the prompt by chance.
        """
        prompt = self.prefix(reply, generation_prompt=True)
        shared = _n_shared(prompt, text)
        if shared < len(prompt):
            usual = self._usual.unshared.get(reply, 0)
            shared = min(shared, len(prompt) - usual) if usual else self._before_own_text(reply, text, shared)
        self.unshared[reply] = len(prompt) - shared
        return shared

    def _before_own_text(self, reply: int, text: str, shared: int) -> int:
        """*shared*, or where the reply's own text begins if that is before it and reaches up to it."""
        first = _n_shared(self.prefix(reply), text)
        for own in (self._texts[reply], self._texts[reply].strip()):
            start = text.rfind(own, max(first, shared - len(own)), shared - 1 + len(own)) if own else -1
            if start >= 0:
                return start
        return shared


def _n_shared(first: str, second: str) -> int:
    """The number of characters that two texts share at their beginning."""
    if second.startswith(first):
        return len(first)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
