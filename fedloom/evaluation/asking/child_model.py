"""A base model, alone or with one adapter, that a warm training child holds."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.orders.on_base.chat_prompt import ChatMessage, ChatPromptRequest
from agent.orders.on_base.count_tokens import CountTokensRequest
from agent.orders.on_base.generate import GenerateRequest, RawPrompt
from agent.orders.on_base.likelihood import LikelihoodRequest, RawPair, RawScored, RollingRequest
from agent.orders.on_base.model import LoraFile
from fedloom.evaluation.asking.batches import batches
from fedloom.evaluation.asking.models import ModelFacts, NoChatTemplate
from fedloom.evaluation.asking.requests import Generate, Likelihood, Rolling, Scored, Text
from fedloom.evaluation.asking.warm_base import WarmBase
from shared.campaign.spec import LoraSection
from shared.digest import sha256_file


class ChildModel:
    """A ``Model`` in a child process. Models on one base share what the child has loaded: only the adapter changes."""

    def __init__(self, base: WarmBase, name: str = "base", adapter: LoraFile | None = None) -> None:
        """Raises OSError if the adapter cannot be read.

        Args:
            base: the base model.
            name: for people.
            adapter: the adapter on the base model; None for the base alone.
        """
        self._base = base
        self._adapter = adapter
        section, described = base.child.model.base, base.described
        self.facts = ModelFacts(
            name=name,
            base=section.model,
            fingerprint=described.fingerprint.model_dump(),
            quantization=section.quantization,
            adapter_sha256=sha256_file(adapter.weights) if adapter is not None else None,
            n_positions=described.n_positions,
            has_chat_template=described.has_chat_template,
            lora=_computing(adapter.lora) if adapter is not None else None,
        )

    def ask(self, requests: Sequence[Any]) -> list[Any]:
        """Ask in batches. Raises TaskFailed and ChildDied."""
        replies: list[Any] = [None] * len(requests)
        for batch in batches(requests):
            for i, reply in zip(batch, self._replies([requests[i] for i in batch]), strict=True):
                replies[i] = reply
        return replies

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, without special ones. Raises TaskFailed and ChildDied."""
        return self._base.run(CountTokensRequest, texts=list(texts)).n_tokens

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """Messages in the model's chat template, up to where its reply begins.

        Raises NoChatTemplate, TaskFailed if the template refuses these roles, and ChildDied.
        """
        if not self.facts.has_chat_template:
            raise NoChatTemplate(f"the tokenizer of {self.facts.base} has no chat template, which this task needs")
        talk = [ChatMessage.model_validate(message) for message in messages]
        return self._base.run(ChatPromptRequest, conversations=[talk]).texts[0]

    def _replies(self, batch: Sequence[Any]) -> list[Any]:
        """The replies to the requests of a batch."""
        kind, n, adapter = type(batch[0]), len(batch), self._adapter
        if kind is Likelihood:
            pairs = [RawPair(context=each.context, continuation=each.continuation, apart=each.apart) for each in batch]
            return _scores(self._base.ask(kind, n, LikelihoodRequest, adapter=adapter, pairs=pairs))
        if kind is Rolling:
            whole = [each.text for each in batch]
            return _scores(self._base.ask(kind, n, RollingRequest, adapter=adapter, texts=whole))
        prompts = [_prompt(each) for each in batch]
        how = {"stop": batch[0].stop, "temperature": batch[0].temperature}
        texts = self._base.ask(kind, n, GenerateRequest, adapter=adapter, prompts=prompts, **how).texts
        return [Text(**each.model_dump()) for each in texts]


def _computing(lora: LoraSection) -> dict[str, Any]:
    """The settings that replies depend on, in one order. Dropout and what is frozen matter in training alone."""
    targets = lora.target_modules
    named = targets if isinstance(targets, str) else sorted(targets)
    return {"rank": lora.rank, "alpha": lora.alpha, "target_modules": named}


def _prompt(asked: Generate) -> RawPrompt:
    return RawPrompt(text=asked.prompt, max_new_tokens=asked.max_new_tokens, seed=asked.seed, sample=asked.sample)


def _scores(scored: RawScored) -> list[Scored]:
    scores = [Scored(**each.model_dump()) for each in scored.scores]
    return [replace(each, log_prob=math.nan) if each.problem else each for each in scores]
