"""Carries out the parent's orders, and keeps the base model and the tokenised data in memory between them."""

from collections.abc import Callable, Sequence
from importlib import import_module

import torch
from transformers.utils import logging as transformers_logging

from agent.orders.order import AnswerT, Order, answer_class
from agent.train.order_context import OrderContext
from agent.train.process import memory
from agent.train.progress import Reporter, Throttle
from agent.train.warm import WarmState

Handler = Callable[[Order[AnswerT], OrderContext], AnswerT]


class Worker:
    """Carries out one order at a time. ``warm``: what stays in memory between orders."""

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        """gpus: what to make visible to each rank of a training in several processes; empty without GPUs."""
        transformers_logging.disable_progress_bar()
        self.warm = WarmState(gpus)

    def carry_out(self, order: Order[AnswerT], report: Reporter, on_text: Callable[[str], None]) -> AnswerT:
        """Have the order's handler do the work, and return the order's own final message.

        Raises TaskFailed, and any unexpected error; TypeError if the handler returns another message.

        Args:
            order: what is to be done.
            report: receives progress, limited in rate.
            on_text: receives the parts of a text.
        """
        handler = handler_of(type(order))
        self.warm.begin()
        memory.reset_peak()
        if order.compute.threads is not None:
            torch.set_num_threads(order.compute.threads)
        answer = handler(order, OrderContext(self.warm, Throttle(report), on_text))
        expected = answer_class(type(order))
        if not isinstance(answer, expected):  # the parent would not take it for an answer, and wait for ever
            raise TypeError(f"{order.handler} returned {type(answer).__name__} instead of {expected.__name__}")
        return answer


def handler_of(order: type[Order[AnswerT]]) -> Handler[AnswerT]:
    """Import the order's handler. Raises ImportError and AttributeError if there is none."""
    module, _, name = order.handler.partition(":")
    handler: Handler[AnswerT] = getattr(import_module(module), name)
    return handler
