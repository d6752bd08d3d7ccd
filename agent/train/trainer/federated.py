"""The client half of any federated algorithm, inside one of TRL's trainers."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, TrainerCallback, set_seed

from agent.errors import TaskFailed
from agent.train.distributed.group import ALONE, Group, synchronise_only_trained
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


class FederatedTrainerMixin:
    """Mixed in before one of TRL's trainers: runs the client half of any algorithm, and records the history.

    The gradient term is added where the gradients synchronise: after the last micro-batch of a step and before they are
    clipped. As a term of the loss it would be added once per micro-batch in one trainer and once per step in another.
    """

    train: Callable[[], Any]
    lr_scheduler: Any

    def attach(
        self,
        client: ClientHalf[Any],
        parameters: Mapping[str, nn.Parameter],
        on_step: Callable[[TrainingHistory], None] = lambda _: None,
        group: Group = ALONE,
    ) -> None:
        """Prepare a training that starts from the current values of *parameters*, the adapter's trained ones.

        on_step: called after each optimizer step. group: the ranks that train together.
        """
        self.history = TrainingHistory()
        self._client = client
        self._parameters = dict(parameters)
        self._anchor = {name: w.detach().clone() for name, w in parameters.items()}
        self._on_step = on_step
        self._group = group
        self._step_loss: Tensor | float = 0.0  # summed over the step's micro-batches of this rank, a scalar
        self._step_tokens = 0  # likewise
        self._started = time.perf_counter()
        self.add_callback(_OptimizerStep(self))  # type: ignore[attr-defined]
        self.remove_callback(PrinterCallback)  # type: ignore[attr-defined]
        if group.size > 1:
            synchronise_only_trained(self.model)  # type: ignore[attr-defined]
        # again, because building the trainer drew random numbers; each rank has its own dropout
        set_seed(self.args.seed + group.rank)  # type: ignore[attr-defined]

    def resume(self, history: TrainingHistory) -> None:
        """Continue a training of this round that was interrupted after *history*."""
        self.history = history
        self._started -= history.seconds

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        self._step_tokens += int(inputs["attention_mask"].sum())
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        self._step_loss = self._step_loss + loss.detach()
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        if accelerator.sync_gradients:
            # under fp16 the gradients carry the loss scale until they are clipped
            scale = accelerator.scaler.get_scale() if accelerator.scaler is not None else 1.0
            for name, w in self._parameters.items():
                term = self._client.extra_grad(name, w.detach(), self._anchor[name])
                if term is not None:
                    w.grad = torch.zeros_like(w) if w.grad is None else w.grad
                    w.grad.add_(term, alpha=scale)
        return loss

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:  # noqa: ARG002
        """Make the schedule of the round: a linear warm-up to the round's rate, then constant.

        Step t of n in the warm-up has t / (n + 1) of the rate, so that no step is without effect.
        """
        if self.lr_scheduler is None:
            # steps that fp16 skips do not count, as transformers does not advance the schedule then
            n_warmup, done = self.args.warmup_steps, self.history.steps  # type: ignore[attr-defined]
            self.lr_scheduler = LambdaLR(
                optimizer or self.optimizer,  # type: ignore[attr-defined]
                lambda step: min(1.0, (done + step + 1) / (n_warmup + 1)),
            )
        return self.lr_scheduler

    def step_metrics(self) -> dict[str, float]:
        """The kind's own metrics of the latest step, by name: those of its shared half of origin ``training``."""
        return {}

    def optimizer_stepped(self) -> None:
        """Called after the optimizer's step. Raises TaskFailed (crash) if the loss is not finite."""
        history = self.history
        own = self.step_metrics()
        loss, tokens, *metrics = self._group.means([float(self._step_loss), self._step_tokens, *own.values()])
        history.losses.append(loss)
        history.tokens += round(tokens * self._group.size)
        self._step_loss, self._step_tokens = 0.0, 0
        if not math.isfinite(history.losses[-1]):
            log.error("the loss is %s at step %d", history.losses[-1], history.done)
            # without the step: by a crafted adapter it would tell which rows hold a word
            message = f"the loss is not finite: the learning rate {self.learning_rate:g} may be too high"
            raise TaskFailed(FailureKind.CRASH, message)
        if not self.accelerator.optimizer_step_was_skipped:  # type: ignore[attr-defined]
            history.steps += 1
            rate = self.learning_rate
            history.mean_learning_rate += (rate - history.mean_learning_rate) / history.steps
            with torch.no_grad():
                for name, w in self._parameters.items():
                    self._client.after_step(name, w.data, rate)
        for name, value in zip(own, metrics, strict=True):
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

    @property
    def learning_rate(self) -> float:
        """The learning rate of the current step."""
        return float(self.optimizer.param_groups[0]["lr"])  # type: ignore[attr-defined]


class _OptimizerStep(TrainerCallback):
    def __init__(self, trainer: FederatedTrainerMixin) -> None:
        self._trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:  # noqa: ARG002
        self._trainer.optimizer_stepped()
