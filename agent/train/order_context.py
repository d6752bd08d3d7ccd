"""What the child lends to the handler of an order."""

from collections.abc import Callable
from dataclasses import dataclass

from agent.train.progress import Reporter
from agent.train.warm import WarmState


@dataclass(frozen=True)
class OrderContext:
    """What the child lends to the handler of an order.

    Args:
        warm: what stays in memory between orders.
        report: receives progress; it passes on a few reports a second, so call it as often as you like.
        on_text: sends the next part of a text to the parent.
    """

    warm: WarmState
    report: Reporter
    on_text: Callable[[str], None]
