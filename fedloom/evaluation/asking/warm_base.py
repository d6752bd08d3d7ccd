"""A base model that a warm training child holds, for all models on it."""

from collections.abc import Callable
from typing import Any

from agent.errors import TaskFailed
from agent.orders.on_base.child import BaseChild
from agent.orders.on_base.describe import DescribeRequest
from agent.orders.on_base.generate import MOST_PROMPTS
from agent.orders.on_base.model import MICRO_BATCH, LocalOrder
from agent.orders.order import AnswerT
from agent.orders.protocol import ChildProgress
from fedloom.evaluation.asking.requests import Generate, Likelihood, Request, Rolling
from shared.wire.tasks.leases import FailureKind

OnChild = Callable[[ChildProgress], None]
"""Receives what the child does: a download, a load, and how far it is with an order."""


class WarmBase:
    """The base model, and how many requests its machine has memory for at once.

    described: what the base model is. micro_batch: most requests of a kind that go through the model at once; fewer
    after memory ran out, whichever model was asked.
    """

    def __init__(self, child: BaseChild, on_child: OnChild = lambda _: None, micro_batch: int | None = None) -> None:
        """Find the base model. Raises TaskFailed if it cannot be found, and ChildDied.

        Args:
            child: the training child of the base model, which belongs to the caller.
            on_child: receives what the child does.
            micro_batch: of each kind, at first; None for what most machines have memory for.
        """
        self.child = child
        self.on_child = on_child
        self.micro_batch: dict[type[Request], int] = {
            Likelihood: micro_batch or MICRO_BATCH,
            Rolling: micro_batch or MICRO_BATCH,
            Generate: micro_batch or MOST_PROMPTS,
        }
        self.described = child.run(DescribeRequest(model=child.model, compute=child.compute), on_child)

    def run(self, order: Callable[..., LocalOrder[AnswerT]], **fields: Any) -> AnswerT:
        """Have the child carry out an order. Raises TaskFailed and ChildDied."""
        return self.child.run(order(model=self.child.model, compute=self.child.compute, **fields), self.on_child)

    def ask(self, kind: type[Request], n: int, order: Callable[..., LocalOrder[AnswerT]], **fields: Any) -> AnswerT:
        """Have the child reply to *n* requests of a kind, half as many at once each time that memory runs out.

        Raises TaskFailed, also if there is no memory for one, and ChildDied.
        """
        while True:
            try:
                return self.run(order, micro_batch=self.micro_batch[kind], **fields)
            except TaskFailed as error:
                at_once = min(n, self.micro_batch[kind])
                if error.failure.kind != FailureKind.OUT_OF_MEMORY or at_once == 1:
                    raise
                self.micro_batch[kind] = at_once // 2
