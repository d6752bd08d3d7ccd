"""Finds a reply in the text that a template makes of it. White space is left out: templates trim it, and add some."""

from collections.abc import Callable
from dataclasses import dataclass

from agent.train.data.control_tokens import bare


@dataclass(frozen=True)
class Frame:
    """What a template puts around a reply, without white space."""

    before: str
    after: str


@dataclass(frozen=True)
class Found:
    """Where a reply is in an answer. whole: no part of it is missing. none: all of it is.

    after: the template's text after the reply, without white space.
    """

    whole: bool
    none: bool
    after: str


def find_reply(reply: str, answer: str, frame: Frame | None, header: Callable[[], str]) -> Found:
    """Find *reply* in header and answer, in one piece that ends in the answer.

    A text that the template itself adds is no reply: the frame tells the two apart, where it fits.

    Args:
        reply: the text of the turn.
        answer: the template's text for it, after the prompt.
        frame: what the template usually puts around a reply, if that is known.
        header: gives the last text of the prompt, which announces a reply. The reply may begin with the end of it.
    """
    wanted, body = bare(reply), bare(answer)
    after = frame.after if frame is not None and body.endswith(frame.after) else ""
    inner = body.removesuffix(after)
    before = frame.before if frame is not None else ""
    if inner == before + wanted:
        return Found(whole=True, none=False, after=after)
    if inner == before:
        return Found(whole=False, none=True, after=after)
    announced = bare(header())
    text = announced + inner
    if inner and text.endswith(wanted):
        return Found(whole=True, none=False, after=after)
    # The template may add something after the reply. What it usually adds before one is not the reply.
    own = len(announced + before) if before and inner.startswith(before) else 0
    place = text.rfind(wanted, own)
    if place >= 0 and place + len(wanted) > len(announced):
        return Found(whole=True, none=False, after=text[place + len(wanted) :] + after)
    return Found(whole=False, none=False, after=after)
