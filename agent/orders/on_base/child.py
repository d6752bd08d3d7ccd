"""Who carries out orders about one base model."""

from collections.abc import Callable
from typing import Protocol

from agent.configuration.settings import ComputeSettings
from agent.orders.on_base.model import LocalModel, LocalOrder
from agent.orders.order import AnswerT
from agent.orders.protocol import ChildProgress


class BaseChild(Protocol):
    """A training child that holds a base model. Orders take its ``model`` and ``compute``."""

    model: LocalModel
    compute: ComputeSettings

    def run(self, order: LocalOrder[AnswerT], on_progress: Callable[[ChildProgress], None] = ...) -> AnswerT:
        """Have the child carry out the order. Raises TaskFailed and ChildDied."""
        ...
