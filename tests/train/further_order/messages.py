"""The order to count the tokens of texts."""

from typing import ClassVar, Literal

from agent.orders.on_base.model import LocalOrder
from agent.orders.protocol import Message


class Counted(Message):
    """The numbers of tokens, in the order of the texts."""

    type: Literal["counted"] = "counted"
    n_tokens: list[int]


class CountTokens(LocalOrder[Counted]):
    """Count the tokens of each text. Each number is also sent as text."""

    handler: ClassVar[str] = "tests.train.further_order.handler:count"

    type: Literal["count"] = "count"
    texts: list[str]
