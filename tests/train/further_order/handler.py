"""Counts the tokens of texts."""

from agent.train.local.model import find_model
from agent.train.order_context import OrderContext
from shared.wire.tasks.leases import Phase, Progress
from tests.train.further_order.messages import Counted, CountTokens


def count(order: CountTokens, context: OrderContext) -> Counted:
    """Count with the base model's tokenizer. Raises TaskFailed."""
    tokenizer = find_model(order, context).tokenizer
    n_tokens: list[int] = []
    for text in order.texts:
        n_tokens.append(len(tokenizer(text)["input_ids"]))
        context.on_text(f"{n_tokens[-1]} ")
        context.report(Progress(phase=Phase.TOKENIZING, done=len(n_tokens), total=len(order.texts)))
    return Counted(n_tokens=n_tokens)
