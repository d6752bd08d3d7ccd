"""What a question to a judge costs at most, before the answers are there."""

from collections.abc import Mapping

from fedloom.evaluation.judging.budget import Cost, tokens_in
from fedloom.evaluation.judging.question import JUDGE_MAX_NEW_TOKENS
from fedloom.evaluation.judging.templates import Template

_BYTES_A_TOKEN = 4
"""Of an answer: tokens of English are about as long."""


def cost_of(template: Template, texts: Mapping[str, str], answer_tokens: int) -> Cost:
    """The most that a question costs.

    Args:
        template: of the question.
        texts: questions and references, by placeholder.
        answer_tokens: the most that each answer has.
    """
    n_bytes = template.n_bytes
    for name in template.placeholders:
        n_bytes += len(texts[name].encode(errors="replace")) if name in texts else _BYTES_A_TOKEN * answer_tokens
    return Cost(1, tokens_in(n_bytes), JUDGE_MAX_NEW_TOKENS)
