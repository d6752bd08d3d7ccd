"""Prompts that are cut from the left to a benchmark's own length, and how long a reply may then be."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedloom.evaluation.asking.models import Model

_MARKS = 1
"""Tokens that a tokenizer puts before a text: that for its beginning."""


@dataclass(frozen=True)
class Fitted:
    """A prompt that fits.

    Args:
        prompt: its end, if it was cut.
        n_left: tokens that are left for the reply.
        is_cut: whether its beginning was cut off.
        problem: why it cannot be asked; empty if it can.
    """

    prompt: str
    n_left: int
    is_cut: bool = False
    problem: str = ""


def too_long(needed: int, model: Model) -> str:
    """Why a prompt that needs so many positions cannot be asked, as the model's own problems say it."""
    return f"needs {needed} positions, and the model has {model.facts.n_positions}"


def fit(prompts: Sequence[str], model: Model, max_length: int, n_reply: int) -> list[Fitted]:
    """Fit prompts.

    Args:
        prompts: to be asked.
        model: which counts tokens.
        max_length: tokens of prompt and reply together, by the benchmark's rule: longer prompts lose their beginning.
        n_reply: tokens of these that a reply has at the least. A model that takes fewer tokens than this rule leaves is
            no reason to cut: such a prompt is a problem.
    """
    room = max_length - _MARKS - n_reply
    fitted = []
    for prompt, n_tokens in zip(prompts, model.count_tokens(prompts), strict=True):
        is_cut = n_tokens > room
        if is_cut:
            prompt, n_tokens = _ending(prompt, room, model)
        n_left = max_length - _MARKS - n_tokens
        if model.facts.n_positions is not None:
            n_left = min(n_left, model.facts.n_positions - _MARKS - n_tokens)
        problem = too_long(n_tokens + _MARKS + n_reply, model) if n_left < n_reply else ""
        fitted.append(Fitted(prompt, n_left, is_cut, problem))
    return fitted


def _ending(text: str, room: int, model: Model) -> tuple[str, int]:
    """The longest ending of a text that has *room* tokens or fewer, and how many it has."""
    low, high, n_tokens = 0, len(text), 0  # from low on it is too long, and from high on it fits
    while high - low > 1:
        middle = (low + high) // 2
        (found,) = model.count_tokens([text[middle:]])
        if found <= room:
            high, n_tokens = middle, found
        else:
            low = middle
    return text[high:], n_tokens
