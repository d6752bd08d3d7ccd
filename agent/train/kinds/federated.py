"""The client half of any federated algorithm, inside of one of TRL's trainers."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from agent.errors import TaskFailed
from shared.algorithms import ClientHalf
from shared.wire.leases import FailureKind


@dataclass
class TrainingHistory:
    """How a training went. losses: one an optimizer step, in nats a supervised token, or a pair where the rows are
    pairs; rewards: of pairs, each step's mean margin and accuracy; tokens: real ones of every sequence, no padding;
    steps: those that changed the weights, which under fp16 not all do."""

    losses: list[float] = field(default_factory=list)
    rewards: list[tuple[float, float]] = field(default_factory=list)
    tokens: int = 0
    steps: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Optimizer steps so far."""
        return len(self.losses)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


class FederatedTrainerMixin:
    """Put before one of TRL's trainers: carries the client half of any algorithm, and counts.

    The gradient term is added where the gradients synchronise, after the last micro-batch of a step and before they are
    clipped. As a term of the loss it would count once for every micro-batch in one trainer and once in another.
    """

    def attach(
        self,
        client: ClientHalf[Any],
        adapter: Mapping[str, nn.Parameter],
        on_step: Callable[[TrainingHistory], None] = lambda _: None,
    ) -> None:
        """Begin from *adapter* as it is now. on_step: called after each optimizer step."""
        self.history = TrainingHistory()
        self._client = client
        self._adapter = dict(adapter)
        self._anchor = {name: value.detach().clone() for name, value in adapter.items()}
        self._on_step = on_step
        self._step_loss: Tensor | float = 0.0
        self._began = time.perf_counter()
        self.add_callback(_OptimizerStep(self))  # type: ignore[attr-defined]

    def go_on(self, history: TrainingHistory) -> None:
        """Take up a training of this round that was broken off, after what it did."""
        self.history = history
        self._began -= history.seconds

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        self.history.tokens += int(inputs["attention_mask"].sum())
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        self._step_loss = self._step_loss + loss.detach()
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        if accelerator.sync_gradients:
            # fp16: the gradients carry the loss scale until they are clipped
            scale = accelerator.scaler.get_scale() if accelerator.scaler is not None else 1.0
            for name, w in self._adapter.items():
                term = self._client.extra_grad(name, w.detach(), self._anchor[name])
                if term is not None:
                    w.grad = torch.zeros_like(w) if w.grad is None else w.grad
                    w.grad.add_(term, alpha=scale)
        return loss

    def step_rewards(self) -> tuple[float, float] | None:
        """Mean margin and accuracy of the latest step's pairs; None where there are no pairs."""
        return None

    def optimizer_stepped(self) -> None:
        """Called after the optimizer's step. Raises TaskFailed where the loss is no longer a number."""
        history = self.history
        history.losses.append(float(self._step_loss))
        self._step_loss = 0.0
        if not math.isfinite(history.losses[-1]):
            message = (
                f"the loss is {history.losses[-1]} at step {history.done}: "
                f"the learning rate {self.learning_rate:g} may be too high"
            )
            raise TaskFailed(FailureKind.CRASH, message)
        if not self.accelerator.optimizer_step_was_skipped:  # type: ignore[attr-defined]
            history.steps += 1
            with torch.no_grad():
                for name, w in self._adapter.items():
                    self._client.after_step(name, w.data, self.learning_rate)
        if (rewards := self.step_rewards()) is not None:
            history.rewards.append(rewards)
        history.seconds = time.perf_counter() - self._began
        self._on_step(history)

    def slots(self) -> dict[str, dict[str, Tensor]]:
        """The update's extras and what the client keeps, slot to name to tensor, once training has ended."""
        found: dict[str, dict[str, Tensor]] = {slot: {} for slot in (*self._client.extras, *self._client.state)}
        with torch.no_grad():
            for name, w in self._adapter.items():
                tensors = self._client.finish(name, w.data, self._anchor[name], self.learning_rate, self.history.steps)
                for slot in found:
                    found[slot][name] = tensors[slot]
        return found

    @property
    def learning_rate(self) -> float:
        """Of the steps of this round; it is constant inside a round."""
        return float(self.args.learning_rate)  # type: ignore[attr-defined]


class _OptimizerStep(TrainerCallback):
    def __init__(self, trainer: FederatedTrainerMixin) -> None:
        self._trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:  # noqa: ARG002
        self._trainer.optimizer_stepped()
