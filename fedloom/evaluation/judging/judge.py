"""A judge that a person named, and what it may cost."""

from dataclasses import dataclass, field

from fedloom.errors import EvaluationError
from fedloom.evaluation.judging.budget import MOST_TOKENS, Budget
from fedloom.evaluation.judging.client import Patience
from fedloom.evaluation.judging.endpoint import Endpoint, endpoint_of


@dataclass(frozen=True)
class Judge:
    """A judge, and what it may cost in all.

    Args:
        endpoint: where it is.
        budget: of the whole evaluation, whatever tasks and models ask. Replies of earlier runs count when they are
            used, so that a run that goes on has no more than one that was not stopped.
        patience: how long it is waited for.
    """

    endpoint: Endpoint
    budget: Budget
    patience: Patience = field(default_factory=Patience)


def judge_of(url: str | None, model: str | None, max_tokens: int | None = None) -> Judge | None:
    """The judge that a person named; None if none is. Raises EvaluationError, as ``endpoint_of`` does.

    Args:
        url, model: of ``endpoint_of``.
        max_tokens: what it may cost in all; None for ``MOST_TOKENS``.
    """
    if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
        raise EvaluationError(f"--judge-max-tokens is a whole number from 1 on, and not {max_tokens!r}")
    endpoint = endpoint_of(url, model)
    if endpoint is None:
        if max_tokens is not None:
            raise EvaluationError("--judge-max-tokens needs a judge: --judge-url and --judge-model")
        return None
    return Judge(endpoint, Budget(max_tokens or MOST_TOKENS))
