"""The client half of any federated algorithm over the optimizer steps of a training, and the training's course.

Whatever trains calls ``add_gradient_terms`` and ``stepped`` once a step each: TRL's trainers through
``FederatedTrainerMixin``, other trainers themselves.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from agent.errors import TaskFailed
from shared.algorithms import ClientHalf
from shared.wire.tasks.leases import FailureKind

log = logging.getLogger(__name__)


@dataclass
class TrainingHistory:
    """The course of a training.

    Attributes:
        losses: one per optimizer step, in the kind's unit.
        metrics: the kind's own metrics by name, one value per optimizer step.
        tokens: tokens of all sequences of all ranks, without padding.
        steps: optimizer steps that changed the weights; under fp16 some are skipped.
        mean_learning_rate: mean rate of these steps.
        seconds: training time, with the part before an interruption.
    """

    losses: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    tokens: int = 0
    steps: int = 0
    mean_learning_rate: float = 0.0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """The number of optimizer steps so far, skipped ones included."""
        return len(self.losses)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


class ClientSteps:
    """The client half over the steps of one training, which starts from the current values of *parameters*.

    Args:
        client: the algorithm's client half.
        parameters: the adapter's trained ones, by name.
        on_step: called after each optimizer step.
    """

    def __init__(
        self,
        client: ClientHalf[Any],
        parameters: Mapping[str, nn.Parameter],
        on_step: Callable[[TrainingHistory], None] = lambda _: None,
    ) -> None:
        self.history = TrainingHistory()
        self._client = client
        self._parameters = dict(parameters)
        self._anchor = {name: w.detach().clone() for name, w in parameters.items()}
        self._on_step = on_step
        self._n_added = 0
        self.start_clock()

    def start_clock(self) -> None:
        """Count the training's seconds from now on, without what was prepared before."""
        self._started = time.perf_counter()

    def resume(self, history: TrainingHistory) -> None:
        """Continue a training of this round that was interrupted after *history*."""
        self.history = history
        self._started -= history.seconds

    def add_gradient_terms(self, scale: float = 1.0) -> None:
        """Add the client half's term to the gradient of each parameter.

        Once a step: after the last micro-batch, before the gradients are clipped. scale: the loss scale that the
        gradients carry, under fp16.
        """
        self._n_added += 1
        for name, w in self._parameters.items():
            term = self._client.extra_grad(name, w.detach(), self._anchor[name])
            if term is not None:
                w.grad = torch.zeros_like(w) if w.grad is None else w.grad
                w.grad.add_(term, alpha=scale)

    def stepped(
        self,
        *,
        loss: float,
        tokens: int,
        learning_rate: float,
        skipped: bool = False,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Note an optimizer step, after it, and let the client half correct the weights.

        Raises TaskFailed: crash if the loss is not finite, trainer if the gradient terms were not added once.

        Args:
            loss: the step's, in the kind's unit.
            tokens: of the step's sequences, without padding.
            learning_rate: the step's.
            skipped: whether the optimizer left the weights as they were, as fp16 does when gradients overflow.
            metrics: the kind's own metrics of the step.
        """
        added, self._n_added = self._n_added, 0
        if added != 1:
            message = f"the trainer let the algorithm's gradient term in {added} times in a step instead of once"
            raise TaskFailed(FailureKind.TRAINER, message)
        history = self.history
        history.losses.append(loss)
        history.tokens += tokens
        if not math.isfinite(loss):
            log.error("the loss is %s at step %d", loss, history.done)
            # without the step: by a crafted adapter it would tell which rows hold a word
            message = f"the loss is not finite: the learning rate {learning_rate:g} may be too high"
            raise TaskFailed(FailureKind.CRASH, message)
        if not skipped:
            history.steps += 1
            history.mean_learning_rate += (learning_rate - history.mean_learning_rate) / history.steps
            with torch.no_grad():
                for name, w in self._parameters.items():
                    self._client.after_step(name, w.data, learning_rate)
        for name, value in (metrics or {}).items():
            history.metrics.setdefault(name, []).append(value)
        history.seconds = time.perf_counter() - self._started
        self._on_step(history)

    def slots(self) -> dict[str, dict[str, Tensor]]:
        """The update's extras and the new client state, after training: slot to name to tensor of that name's shape."""
        slots: dict[str, dict[str, Tensor]] = {slot: {} for slot in (*self._client.extras, *self._client.state)}
        rate, steps = self.history.mean_learning_rate, self.history.steps
        with torch.no_grad():
            for name, w in self._parameters.items():
                tensors = self._client.finish(name, w.data, self._anchor[name], rate, steps)
                for slot in slots:
                    slots[slot][name] = tensors[slot]
        return slots


def warmed_up(steps: int, n_warmup: int) -> float:
    """The share of the round's learning rate that the next step has: a linear warm-up, then 1.

    Step t of n in the warm-up has t / (n + 1) of the rate, so that no step is without effect.

    Args:
        steps: those that have changed the weights: steps that fp16 skips do not count, as in transformers.
        n_warmup: steps of the warm-up.
    """
    return min(1.0, (steps + 1) / (n_warmup + 1))
