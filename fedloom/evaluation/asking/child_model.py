"""A base model, alone or with one adapter, that a warm training child holds."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from agent.errors import TaskFailed
from agent.local import LocalChild
from agent.orders.on_base.chat_prompt import ChatMessage, ChatPromptRequest
from agent.orders.on_base.count_tokens import CountTokensRequest
from agent.orders.on_base.describe import Described, DescribeRequest
from agent.orders.on_base.generate import GenerateRequest, RawPrompt
from agent.orders.on_base.likelihood import LikelihoodRequest, RawPair, RawScored, RollingRequest
from agent.orders.on_base.model import MICRO_BATCH, LoraFile
from agent.orders.protocol import ChildProgress, LocalPhase
from fedloom.evaluation.asking.models import Done, ModelFacts, NoChatTemplate
from fedloom.evaluation.asking.requests import Generate, Likelihood, Request, Rolling, Scored, Text
from shared.digest import sha256_file
from shared.wire.leases import FailureKind, Phase

_MAX_TEXTS = 1024
_MAX_NEW_TOKENS = 1 << 15
"""What one order asks for at most, so that its answer is a line that the child's parent reads."""
_COUNTED = (Phase.EVALUATING, LocalPhase.ANSWERING)
"""The phases whose progress is a number of requests."""

Waiting = Callable[[ChildProgress], None]
"""Receives what the child does before it can reply: a download, a load."""


def describe(child: LocalChild, waiting: Waiting = lambda _: None) -> Described:
    """What the child's base model is. Raises TaskFailed if it cannot be found, and ChildDied."""
    return child.run(DescribeRequest(model=child.model, compute=child.compute), waiting)


class ChildModel:
    """A ``Model`` in a child process. Models on one child share its loaded base: only the adapter changes.

    Requests go to the child the longest first. If memory runs out, the child starts anew with half as many at once.
    """

    def __init__(
        self,
        child: LocalChild,
        described: Described,
        name: str = "base",
        adapter: LoraFile | None = None,
        *,
        micro_batch: int = MICRO_BATCH,
        waiting: Waiting = lambda _: None,
    ) -> None:
        """Raises OSError if the adapter cannot be read.

        Args:
            child: the training child of the base model, which belongs to the caller.
            described: what the base model is, from ``describe``.
            name: for people.
            adapter: the adapter on the base model; None for the base alone.
            micro_batch: requests that go through the model at once, at first.
            waiting: receives what the child does before it can reply.
        """
        self._child = child
        self._adapter = adapter
        self.micro_batch = micro_batch
        self._waiting = waiting
        base = child.model.base
        self.facts = ModelFacts(
            name=name,
            base=base.model,
            fingerprint=described.fingerprint.model_dump(),
            quantization=base.quantization,
            adapter_sha256=sha256_file(adapter.weights) if adapter is not None else None,
            n_positions=described.n_positions,
            has_chat_template=described.has_chat_template,
        )

    def ask(self, requests: Sequence[Any], done: Done = lambda _: None) -> list[Any]:
        """Ask, in the order of the requests. Raises TaskFailed and ChildDied."""
        replies: list[Any] = [None] * len(requests)
        n_done = 0
        for order in _orders(requests):
            new = self._answer([requests[i] for i in order], partial(_done_since, n_done, done))
            for i, reply in zip(order, new, strict=True):
                replies[i] = reply
            n_done += len(order)
        return replies

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, without special ones. Raises TaskFailed and ChildDied."""
        order = CountTokensRequest(model=self._child.model, compute=self._child.compute, texts=list(texts))
        return self._child.run(order).n_tokens

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """Messages in the model's chat template, up to where its reply begins.

        Raises NoChatTemplate, TaskFailed if the template refuses these roles, and ChildDied.
        """
        if not self.facts.has_chat_template:
            raise NoChatTemplate(f"the tokenizer of {self.facts.base} has no chat template, which this task needs")
        talk = [ChatMessage.model_validate(message) for message in messages]
        order = ChatPromptRequest(model=self._child.model, compute=self._child.compute, conversations=[talk])
        return self._child.run(order).texts[0]

    def _answer(self, requests: Sequence[Request], done: Done) -> list[Any]:
        """The replies to requests that fit into one order, with fewer at once each time that memory runs out."""

        def on_progress(progress: ChildProgress) -> None:
            if progress.phase in _COUNTED:
                done(progress.done)
            else:
                self._waiting(progress)

        while True:
            try:
                return self._run(requests, on_progress)
            except TaskFailed as error:
                if error.failure.kind != FailureKind.OUT_OF_MEMORY or self.micro_batch == 1:
                    raise
                self.micro_batch //= 2

    def _run(self, requests: Sequence[Any], on_progress: Waiting) -> list[Any]:
        fields: dict[str, Any] = {
            "model": self._child.model,
            "compute": self._child.compute,
            "adapter": self._adapter,
            "micro_batch": self.micro_batch,
        }
        first = requests[0]
        if isinstance(first, Likelihood):
            pairs = [RawPair(context=each.context, continuation=each.continuation) for each in requests]
            return _scores(self._child.run(LikelihoodRequest(**fields, pairs=pairs), on_progress))
        if isinstance(first, Rolling):
            texts = [each.text for each in requests]
            return _scores(self._child.run(RollingRequest(**fields, texts=texts), on_progress))
        prompts = [RawPrompt(text=each.prompt, seed=each.seed, sample=each.sample) for each in requests]
        how = {"stop": first.stop, "max_new_tokens": first.max_new_tokens, "temperature": first.temperature}
        after = self._child.run(GenerateRequest(**fields, **how, prompts=prompts), on_progress).texts
        return [Text(**each.model_dump()) for each in after]


def _done_since(n_before: int, done: Done, n: int) -> None:
    done(n_before + n)


def _scores(scored: RawScored) -> list[Scored]:
    scores = [Scored(**each.model_dump()) for each in scored.scores]
    return [replace(each, log_prob=math.nan) if each.problem else each for each in scores]


def _orders(requests: Sequence[Request]) -> Iterator[list[int]]:
    """The places of requests that one order may hold: of one kind, and decoded alike; the longest first."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, request in enumerate(requests):
        alike.setdefault(_manner(request), []).append(i)
    for manner, places in alike.items():
        places.sort(key=lambda i: -_length(requests[i]))
        n = _MAX_TEXTS if manner[0] is not Generate else max(1, _MAX_NEW_TOKENS // manner[2])
        yield from (places[begin : begin + n] for begin in range(0, len(places), n))


def _manner(request: Request) -> tuple[Any, ...]:
    if isinstance(request, Generate):
        return Generate, request.stop, request.max_new_tokens, request.temperature
    return (type(request),)


def _length(request: Request) -> int:
    match request:
        case Likelihood():
            return len(request.context) + len(request.continuation)
        case Rolling():
            return len(request.text)
        case Generate():
            return len(request.prompt)
