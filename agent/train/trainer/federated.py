"""The client half of any federated algorithm, inside one of TRL's trainers."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, TrainerCallback, set_seed

from agent.train.distributed.group import ALONE, Group, synchronise_only_trained
from agent.train.trainer.client_steps import ClientSteps, TrainingHistory, warmed_up


class FederatedTrainerMixin:
    """Mixed in before one of TRL's trainers: runs the client half of any algorithm, and records the history.

    The gradient term is added where the gradients synchronise: after the last micro-batch of a step and before they are
    clipped. As a term of the loss it would be added once per micro-batch in one trainer and once per step in another.
    """

    train: Callable[[], Any]
    lr_scheduler: Any

    def attach(self, client_steps: ClientSteps, group: Group = ALONE) -> None:
        """Prepare a training that starts from the current values of the adapter.

        group: the ranks that train together.
        """
        self.client_steps = client_steps
        client_steps.start_clock()
        self._group = group
        self._step_loss: Tensor | float = 0.0  # summed over the step's micro-batches of this rank, a scalar
        self._step_tokens = 0  # likewise
        self.add_callback(_OptimizerStep(self))  # type: ignore[attr-defined]
        self.remove_callback(PrinterCallback)  # type: ignore[attr-defined]
        if group.size > 1:
            synchronise_only_trained(self.model)  # type: ignore[attr-defined]
        # again, because building the trainer drew random numbers; each rank has its own dropout
        set_seed(self.args.seed + group.rank)  # type: ignore[attr-defined]

    @property
    def history(self) -> TrainingHistory:
        """The course of the training so far."""
        return self.client_steps.history

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        self._step_tokens += int(inputs["attention_mask"].sum())
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        self._step_loss = self._step_loss + loss.detach()
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        if accelerator.sync_gradients:
            # under fp16 the gradients carry the loss scale until they are clipped
            self.client_steps.add_gradient_terms(
                accelerator.scaler.get_scale() if accelerator.scaler is not None else 1.0
            )
        return loss

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:  # noqa: ARG002
        """Make the schedule of the round: ``warmed_up``."""
        if self.lr_scheduler is None:
            n_warmup, done = self.args.warmup_steps, self.history.steps  # type: ignore[attr-defined]
            self.lr_scheduler = LambdaLR(
                optimizer or self.optimizer,  # type: ignore[attr-defined]
                lambda step: warmed_up(done + step, n_warmup),
            )
        return self.lr_scheduler

    def step_metrics(self) -> dict[str, float]:
        """The kind's own metrics of the latest step, by name: those of its shared half of origin ``training``."""
        return {}

    def optimizer_stepped(self) -> None:
        """Called after the optimizer's step. Raises TaskFailed (crash) if the loss is not finite."""
        own = self.step_metrics()
        loss, tokens, *metrics = self._group.means([float(self._step_loss), self._step_tokens, *own.values()])
        self._step_loss, self._step_tokens = 0.0, 0
        self.client_steps.stepped(
            loss=loss,
            tokens=round(tokens * self._group.size),
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),  # type: ignore[attr-defined]
            skipped=self.accelerator.optimizer_step_was_skipped,  # type: ignore[attr-defined]
            metrics=dict(zip(own, metrics, strict=True)),
        )


class _OptimizerStep(TrainerCallback):
    def __init__(self, trainer: FederatedTrainerMixin) -> None:
        self._trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:  # noqa: ARG002
        self._trainer.optimizer_stepped()
