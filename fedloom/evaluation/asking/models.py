"""What can be asked: a base model, alone or with one adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

from fedloom.evaluation.asking.requests import Generate, Likelihood, Rolling, Scored, Text


@dataclass(frozen=True)
class ModelFacts:
    """What identifies a model in results.

    Args:
        name: for people: "base", or the adapter's.
        base: the base model, as adapters name it.
        fingerprint: digests of the base model's files, by part.
        quantization: of the base; None for none.
        adapter_sha256: of the adapter's weights; None for the base alone.
        n_positions: most tokens that the model takes; None if it has no such limit.
        has_chat_template: whether the tokenizer has one.
        lora: what else decides the adapter's replies: its rank, alpha and target modules; None for the base alone.
    """

    name: str
    base: str
    fingerprint: dict[str, str]
    quantization: str | None
    adapter_sha256: str | None
    n_positions: int | None
    has_chat_template: bool
    lora: dict[str, Any] | None = None


class Model(Protocol):
    """A model that tasks ask. Replies come in the order of the requests."""

    facts: ModelFacts

    @overload
    def ask(self, requests: Sequence[Likelihood]) -> list[Scored]: ...

    @overload
    def ask(self, requests: Sequence[Rolling]) -> list[Scored]: ...

    @overload
    def ask(self, requests: Sequence[Generate]) -> list[Text]: ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, without special ones."""
        ...

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """Messages in the model's chat template, up to where its reply begins. Raises NoChatTemplate."""
        ...


class NoChatTemplate(Exception):
    """The model has no chat template, and the task needs one."""
