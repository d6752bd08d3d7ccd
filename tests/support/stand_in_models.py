"""Models that know nothing, or what a test tells them. A token is a word."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from fedloom.evaluation.asking.models import ModelFacts, NoChatTemplate
from fedloom.evaluation.asking.requests import Generate, Request, Scored, Text, digest_of


def facts(n_positions: int | None = None, has_chat_template: bool = False) -> ModelFacts:
    return ModelFacts("base", "stand-in", {}, None, None, n_positions, has_chat_template)


class StandIn:
    """Replies with what a function says of a request: a reply, or its text. It remembers what it was asked."""

    def __init__(self, reply: Callable[[Any], Any], n_positions: int | None = None, has_chat: bool = False) -> None:
        self.facts = facts(n_positions, has_chat)
        self.asked: list[Any] = []
        self._reply = reply

    def ask(self, requests: Sequence[Any]) -> list[Any]:
        self.asked += requests
        replies = [self._reply(request) for request in requests]
        return [Text(reply, len(reply.split())) if isinstance(reply, str) else reply for reply in replies]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> str:
        if not self.facts.has_chat_template:
            raise NoChatTemplate
        return "".join(f"<{message['role']}>{message['content']}</>" for message in messages) + "<assistant>"


def saying(text: str, **options: Any) -> StandIn:
    """A model that always replies the same."""
    return StandIn(lambda _: text, **options)


def uniform(words: Sequence[str] = ("",), seed: int = 0, **options: Any) -> StandIn:
    """A model that draws uniformly: among *words*, or log-likelihoods."""

    def reply(request: Request) -> Scored | Text:
        drawn = random.Random(f"{seed} {digest_of(request)}")
        return Text(drawn.choice(words), 1) if isinstance(request, Generate) else Scored(-10 * drawn.random(), 1)

    return StandIn(reply, **options)
