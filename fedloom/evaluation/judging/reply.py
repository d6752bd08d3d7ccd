"""A server's reply as a judgement."""

import json
from dataclasses import dataclass
from typing import Any

from fedloom.evaluation.judging.budget import Cost
from shared.text.unsafe import one_line

_LONGEST_NAME = 200


@dataclass(frozen=True)
class Judgement:
    """What a judge said.

    Args:
        text: its reply.
        model: what the server says has replied.
        cost: in tokens, as the server counts them, or estimated.
        asked_at: when it replied, in UTC, as ISO 8601.
    """

    text: str
    model: str
    cost: Cost
    asked_at: str


def judgement_of(body: str, estimate: Cost, asked_at: str) -> Judgement:
    """Read the body of a reply. Raises ValueError, which says what is wrong with it.

    Args:
        body: of a reply with the status 200.
        estimate: of its cost, where the server names none.
        asked_at: when it came.
    """
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("its reply is no JSON, or breaks off") from None
    choices = found.get("choices") if isinstance(found, dict) else None
    message = (
        choices[0].get("message") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    )
    if not isinstance(message, dict):
        raise ValueError("its reply has no message")
    text = message.get("content")
    if text is None:
        text = ""  # a judge that refuses, or that only thought
    if not isinstance(text, str):
        raise ValueError("its message is no text")
    text = text.encode(errors="replace").decode()  # JSON can name halves of a character, which no file holds
    model = found.get("model")
    named = one_line(model, _LONGEST_NAME) if isinstance(model, str) else ""
    return Judgement(text, named, _cost(found.get("usage"), estimate), asked_at)


def _cost(usage: Any, estimate: Cost) -> Cost:
    """What the server counted; the estimate for what it did not, or not as a number."""
    counted = usage if isinstance(usage, dict) else {}
    return Cost(
        1,
        _number(counted.get("prompt_tokens"), estimate.tokens_in),
        _number(counted.get("completion_tokens"), estimate.tokens_out),
    )


def _number(value: Any, otherwise: int) -> int:
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40
    return value if is_number else otherwise
