"""A row as text: the prompts, the answer to each, and what of the row the text lacks."""

from dataclasses import dataclass

from agent.data.rows import Role


@dataclass(frozen=True)
class Exchange:
    """A prompt, which is all text since the previous answer, and its answer.

    supervised: whether the loss covers the answer. ended: whether the template ends the answer with an end marker.
    """

    prompt: str
    answer: str
    supervised: bool = True
    ended: bool = False


@dataclass(frozen=True)
class Omissions:
    """What of a row a template leaves out, or changes.

    Args:
        completion: whether the answer lacks part of the completion.
        whole_completion: whether it lacks all of it.
        replies: number of supervised earlier replies of which a part is missing.
        mixes_turns: whether an answer holds other turns, because the template renders a prompt differently once it is
            answered.
        turns: roles of other turns whose text is missing.
        turn_parts: roles of other turns of whose text a part is missing.
        rendered_differently: number of earlier replies that the loss does not cover, because the template renders them
            differently once other turns follow.
        without_end: number of those that it does not cover because no end marker follows them.
        without_prompt: number of those that it does not cover because no user turn precedes them.
        completion_spaced: whether white space of the completion is missing, or is another.
        replies_spaced: number of supervised earlier replies of which this is true.
        header_in_answer: whether the answers hold what announces them, because the template has no generation prompt.
    """

    completion: bool = False
    whole_completion: bool = False
    replies: int = 0
    mixes_turns: bool = False
    turns: frozenset[Role] = frozenset()
    turn_parts: frozenset[Role] = frozenset()
    rendered_differently: int = 0
    without_end: int = 0
    without_prompt: int = 0
    completion_spaced: bool = False
    replies_spaced: int = 0
    header_in_answer: bool = False


@dataclass(frozen=True)
class Text:
    """A rendered row: its exchanges end to end, to be tokenised without special tokens.

    plain: the text contains no special tokens. If true, the tokenizer's opening special tokens come before the text,
    and its end-of-sequence token follows each answer. If false, that token follows the last answer only, and only if
    the template does not end it. omissions: what of the row the text lacks.
    """

    exchanges: tuple[Exchange, ...]
    plain: bool
    omissions: Omissions = Omissions()
