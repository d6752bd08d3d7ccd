"""What is said about the parts of an owner's rows that a template leaves out."""

from collections import defaultdict
from collections.abc import Sequence

from agent.data.checks.notices import Occurrences
from agent.data.rows import LocatedRow
from agent.train.data.rendering.texts import Omissions, Text

_REMEDY = "use another template, or allow it by template_may_drop = true in the data table"
_MIXED = (
    "the template renders a prompt differently once it is answered, so the loss would cover part of the prompt: use "
    "another template"
)
_RENDERED_DIFFERENTLY = "the template renders them differently once other turns follow"
_WITHOUT_END = "no end marker follows them in the template"
_WITHOUT_PROMPT = "no user turn precedes them"
_HEADER = (
    "the template has no generation prompt, so the loss also covers what it puts before each reply, and the model "
    "generates that"
)


def wrong_completion(texts: Sequence[Text], *, may_drop: bool) -> str:
    """Why the loss would not cover exactly the replies, as the end of an error message; empty if it would.

    may_drop: whether part of a reply may be missing.
    """
    if any(text.omissions.mixes_turns for text in texts):
        return f": {_MIXED}"
    if may_drop:
        return ""
    if what := _dropped_reply(texts):
        return f": the template drops part of {what}, or changes it: {_REMEDY}"
    return ""


class OmissionNotices:
    """Collects what the texts of usable rows lack."""

    def __init__(self, notices: Occurrences) -> None:
        self._notices = notices
        self._replies: dict[tuple[str, str], int] = defaultdict(int)
        self._places: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._header_labels: dict[str, None] = {}

    def add(self, located: LocatedRow, texts: Sequence[Text]) -> None:
        """Add a row. texts: one for each of its completions."""
        if all(text.omissions == _NOTHING for text in texts):
            return
        if what := _dropped_reply(texts):
            self._notices.add(located.label, located.place, f": the template drops part of {what}, or changes it")
        for what, is_spaced in (
            ("the completion", any(text.omissions.completion_spaced for text in texts)),
            ("an earlier reply", any(text.omissions.replies_spaced for text in texts)),
        ):
            if is_spaced:
                message = f": the template trims {what}, or changes white space in it, such as indentation"
                self._notices.add(located.label, located.place, message)
        if texts[0].omissions.header_in_answer:
            self._header_labels[located.label] = None
        for role in sorted({role for text in texts for role in text.omissions.turns}):
            self._notices.add(located.label, located.place, f": the template drops {_A[role]} turn")
        for role in sorted({role for text in texts for role in text.omissions.turn_parts}):
            message = f": the template drops part of {_A[role]} turn, or changes it"
            self._notices.add(located.label, located.place, message)
        omissions = texts[0].omissions  # earlier replies are supervised only where there is one completion
        for reason, number in (
            (_RENDERED_DIFFERENTLY, omissions.rendered_differently),
            (_WITHOUT_END, omissions.without_end),
            (_WITHOUT_PROMPT, omissions.without_prompt),
        ):
            if number:
                self._replies[located.label, reason] += number
                self._places[located.label, reason].append(located.place)

    def finish(self) -> None:
        """Add the notices that concern all rows."""
        for label in self._header_labels:
            self._notices.add(label, "", _HEADER)
        for (label, reason), number in self._replies.items():
            for place in self._places[label, reason]:
                message = f": earlier replies are not supervised, {number:,} in all: {reason}"
                self._notices.add(label, place, message)


def _dropped_reply(texts: Sequence[Text]) -> str:
    if any(text.omissions.completion for text in texts):
        return "the completion"
    return "an earlier reply" if any(text.omissions.replies for text in texts) else ""


_NOTHING = Omissions()
_A = {"system": "a system", "user": "a user", "assistant": "an assistant"}
