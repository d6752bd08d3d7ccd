"""The order to say what a base model is. Its weights are not loaded."""

from typing import ClassVar, Literal

from agent.orders.on_base.model import LocalOrder
from agent.orders.protocol import Message
from shared.wire.tasks.results import Fingerprint


class Described(Message):
    """What a base model is.

    Args:
        fingerprint: digests of its files.
        n_positions: most tokens that it takes; None if it has no such limit.
        has_chat_template: whether its tokenizer has one.
    """

    type: Literal["described"] = "described"
    fingerprint: Fingerprint
    n_positions: int | None
    has_chat_template: bool


class DescribeRequest(LocalOrder[Described]):
    """Find the base model and read its configuration."""

    handler: ClassVar[str] = "agent.train.local.describing:describe"

    type: Literal["describe"] = "describe"
