"""The harness's interface of a model, over ours. Imported only while the harness runs."""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import LM

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Generate, Likelihood, Reply, Request, Rolling, Scored, Text

DEFAULT_NEW_TOKENS = 256
"""The harness's own, where a task sets none."""


class HarnessModel(LM):  # type: ignore[misc]
    """Passes the harness's requests on. replies: to all requests, by request."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self.replies: dict[Request, Reply] = {}

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Log-likelihoods of continuations, and whether greedy decoding gives them; NaN where there is a problem."""
        scored = self._ask([_likelihood(*each.args) for each in requests])
        return [(reply.log_prob, reply.is_greedy) for reply in scored]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Log-likelihoods of whole texts."""
        return [reply.log_prob for reply in self._ask([Rolling(*each.args) for each in requests])]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Texts up to stop strings. Raises ValueError if a task asks for what no ``Generate`` says."""
        return [reply.text for reply in self._ask([generation(*each.args) for each in requests])]

    def _ask(self, requests: Sequence[Any]) -> list[Any]:
        unique = list(dict.fromkeys(requests))
        replies: list[Scored | Text] = self._model.ask(unique)
        self.replies.update(zip(unique, replies, strict=True))
        return [self.replies[request] for request in requests]


def _likelihood(context: str, continuation: str) -> Likelihood:
    return Likelihood(context, continuation)


def generation(prompt: str, how: dict[str, Any]) -> Generate:
    """A request to generate in the words of the harness, in ours. Raises ValueError for options that ours lacks."""
    options = dict(how)
    until = options.pop("until", [])
    samples = options.pop("do_sample", False)
    temperature = float(options.pop("temperature", 0.0))
    n = int(options.pop("max_gen_toks", DEFAULT_NEW_TOKENS))
    if options:
        raise ValueError(f"the task's generation_kwargs have {', '.join(sorted(options))}, which no model here takes")
    stop = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
    return Generate(prompt, stop, n, temperature if samples else 0.0)


def request_of(arguments: tuple[Any, ...]) -> Request:
    """The request that the harness's arguments stand for."""
    if len(arguments) == 1:
        return Rolling(*arguments)
    context, second = arguments
    return generation(context, second) if isinstance(second, dict) else Likelihood(context, second)
