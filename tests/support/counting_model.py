"""A model that counts what it is asked, and replies by what it is asked alone."""

from collections.abc import Sequence
from typing import Any

from fedloom.evaluation.asking.models import ModelFacts
from fedloom.evaluation.asking.requests import Generate, Scored, Text, digest_of


class CountingModel:
    """dies_after: raise RuntimeError once so many requests were asked; None for never."""

    def __init__(self, name: str = "base", adapter_sha256: str | None = None, dies_after: int | None = None) -> None:
        self.facts = ModelFacts(name, "tiny", {"weights": "a" * 64}, None, adapter_sha256, 512, has_chat_template=False)
        self.asked: list[Any] = []
        self.dies_after = dies_after

    def ask(self, requests: Sequence[Any]) -> list[Any]:
        self.asked += requests
        if self.dies_after is not None and len(self.asked) > self.dies_after:
            raise RuntimeError("killed")
        return [self._reply(request) for request in requests]

    def _reply(self, request: Any) -> Any:
        number = int(digest_of(request)[:8], 16) + (1 if self.facts.adapter_sha256 else 0)
        if isinstance(request, Generate):
            return Text(f"{request.prompt} {number}", 3)
        return Scored(-(number % 1000) / 100, 1)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> str:
        return messages[-1]["content"]
