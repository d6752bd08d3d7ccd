"""The order to count the tokens of texts."""

from typing import ClassVar, Literal

from agent.orders.on_base.model import LocalOrder
from agent.orders.protocol import Message


class TokensCounted(Message):
    """The numbers of tokens, in the order of the texts."""

    type: Literal["tokens_counted"] = "tokens_counted"
    n_tokens: list[int]


class CountTokensRequest(LocalOrder[TokensCounted]):
    """Count the tokens of each text, without special ones that the tokenizer adds."""

    handler: ClassVar[str] = "agent.train.local.describing:count_tokens"

    type: Literal["count_tokens"] = "count_tokens"
    texts: list[str]
