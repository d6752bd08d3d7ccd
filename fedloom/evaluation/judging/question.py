"""What a judge is asked, and what that costs at most."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedloom.evaluation.judging.budget import Cost, tokens_in
from fedloom.evaluation.judging.endpoint import Endpoint
from shared.digest import sha256_hex

JUDGE_MAX_NEW_TOKENS = 2048
"""Most tokens of a judge's reply, as FastChat asks for."""


@dataclass(frozen=True)
class Question:
    """What a judge is asked.

    Args:
        messages: of the system and the user.
        temperature: of its reply.
        max_new_tokens: most tokens of its reply.
        task, item, turn, template: what it is about, for people who read the replies.
    """

    messages: Sequence[dict[str, str]]
    temperature: float
    max_new_tokens: int
    task: str
    item: str
    turn: int
    template: str

    @property
    def estimate(self) -> Cost:
        """The most that it costs."""
        n_bytes = sum(len(each["content"].encode(errors="replace")) for each in self.messages)
        return Cost(1, tokens_in(n_bytes), self.max_new_tokens)

    def body(self, model: str) -> dict[str, Any]:
        """As the server wants it."""
        messages = [{**each, "content": each["content"].encode(errors="replace").decode()} for each in self.messages]
        return {
            "model": model,
            "messages": messages,
            "temperature": self.temperature,
            "max_tokens": self.max_new_tokens,
        }

    def digest(self, endpoint: Endpoint) -> str:
        """Of the judge, the prompt with the answers in it, and the decoding."""
        facts = {"url": endpoint.url, **self.body(endpoint.model)}
        return sha256_hex(json.dumps(facts, sort_keys=True).encode())
