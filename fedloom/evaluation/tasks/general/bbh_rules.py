"""How replies to BBH are scored. Each rule takes the row and the reply, in a list as lm-evaluation-harness has it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_ANSWER = re.compile(r"the answer is (.+)")
_OF_HARNESS = re.compile(r"(?<=the answer is )(.*)(?=.)")


def score_reasoning(row: Mapping[str, Any], replies: Sequence[str]) -> dict[str, float]:
    """Score reasoning that ends with "the answer is ...".

    exact_match: what follows these words on their line, without a full stop at its end, is the target.
    exact_match_harness: as the harness has it: the reply ends at the first capital Q, and what follows the words loses
        its last character whatever that is.
    """
    return {
        "exact_match": float(reasoned_answer(replies[0]) == row["target"]),
        "exact_match_harness": float(_harness_answer(replies[0]) == row["target"]),
    }


def score_direct(row: Mapping[str, Any], replies: Sequence[str]) -> dict[str, float]:
    """Score an answer without reasoning.

    exact_match: the first line of the reply, without white space around it, is the target. starts_with: it begins with
    the target. exact_match_harness: the reply up to the first capital Q is the target, white space included.
    """
    reply, target = replies[0].strip(), row["target"]
    return {
        "exact_match": float(reply.partition("\n")[0].strip() == target),
        "starts_with": float(reply.startswith(target)),
        "exact_match_harness": float(replies[0].partition("Q")[0] == target),
    }


def reasoned_answer(reply: str) -> str | None:
    """The answer at the end of some reasoning; None if it names none."""
    found = _ANSWER.search(reply)
    return found.group(1).strip().removesuffix(".").strip() if found else None


def _harness_answer(reply: str) -> str | None:
    found = _OF_HARNESS.findall(reply.partition("Q")[0])
    return found[0].strip() if found else None
