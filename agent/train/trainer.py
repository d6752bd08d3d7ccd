"""TRL's trainers with the client half of a federated algorithm inside."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from agent.errors import TaskFailed
from agent.train.loss import collate, only_supervised
from agent.train.model import Lent
from shared.algorithms import ClientHalf
from shared.wire.leases import FailureKind

Optimizer = Literal["adamw", "sgd"]
_OPTIMIZERS = {"adamw": "adamw_torch", "sgd": "sgd"}


@dataclass
class Course:
    """How a training went. losses: nats a supervised token, one an optimizer step; tokens: real ones, no padding."""

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    steps: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


class FollowsAlgorithm:
    """Put before one of TRL's trainers: carries the client half of any algorithm, and counts.

    The gradient term is added where the gradients synchronise, after the last micro-batch of a step and before they are
    clipped. As a term of the loss it would count once for every micro-batch in one trainer and once in another.
    """

    def follow(
        self,
        client: ClientHalf[Any],
        adapter: Mapping[str, nn.Parameter],
        on_step: Callable[[Course], None] = lambda _: None,
    ) -> None:
        """Begin from *adapter* as it is now. on_step: called after each optimizer step."""
        self.course = Course()
        self._client = client
        self._adapter = dict(adapter)
        self._anchor = {name: value.detach().clone() for name, value in adapter.items()}
        self._on_step = on_step
        self._step_loss: Tensor | float = 0.0
        self._began = time.perf_counter()
        self.add_callback(_OptimizerStep(self))  # type: ignore[attr-defined]

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        self.course.tokens += int(inputs["attention_mask"].sum())
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

    def optimizer_stepped(self) -> None:
        """Called after the optimizer's step. Raises TaskFailed where the loss is no longer a number."""
        course = self.course
        course.losses.append(float(self._step_loss))
        self._step_loss = 0.0
        if not math.isfinite(course.losses[-1]):
            message = (
                f"the loss is {course.losses[-1]} at step {len(course.losses)}: "
                f"the learning rate {self.learning_rate:g} may be too high"
            )
            raise TaskFailed(FailureKind.CRASH, message)
        if not self.accelerator.optimizer_step_was_skipped:  # type: ignore[attr-defined]
            course.steps += 1
            with torch.no_grad():
                for name, w in self._adapter.items():
                    self._client.after_step(name, w.data, self.learning_rate)
        course.seconds = time.perf_counter() - self._began
        self._on_step(course)

    def slots(self) -> dict[str, dict[str, Tensor]]:
        """The update's extras and what the client keeps, slot to name to tensor, once training has ended."""
        found: dict[str, dict[str, Tensor]] = {slot: {} for slot in (*self._client.extras, *self._client.kept)}
        with torch.no_grad():
            for name, w in self._adapter.items():
                tensors = self._client.finish(name, w.data, self._anchor[name], self.learning_rate, self.course.steps)
                for slot in found:
                    found[slot][name] = tensors[slot]
        return found

    @property
    def learning_rate(self) -> float:
        """Of the steps of this round; it is constant inside a round."""
        return float(self.args.learning_rate)  # type: ignore[attr-defined]


class _OptimizerStep(TrainerCallback):
    def __init__(self, trainer: FollowsAlgorithm) -> None:
        self._trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:  # noqa: ARG002
        self._trainer.optimizer_stepped()


class SftTrainer(FollowsAlgorithm, SFTTrainer):
    """Supervised fine-tuning: the mean loss over an optimizer step's supervised tokens, however it is cut into
    micro-batches."""

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Makes the Trainer count the supervised tokens of a whole step; without it, models whose forward takes no
        # further arguments would get a mean of micro-batch means.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        rest = {key: value for key, value in inputs.items() if key != "labels"}
        with only_supervised(self.model.get_base_model(), inputs["labels"]) as targets:
            rest["shift_labels"] = targets
            return super().compute_loss(model, rest, return_outputs, num_items_in_batch)


def micro_batch_of(batch_size: int, limit: int) -> int:
    """Rows that go through the model at once: the largest divisor of *batch_size* that is at most *limit*."""
    return max(size for size in range(1, batch_size + 1) if batch_size % size == 0 and size <= max(limit, 1))


def sft_trainer(
    lent: Lent,
    examples: list[dict[str, list[int]]],
    tokenizer: Any,
    *,
    folder: str,
    batch_size: int,
    micro_batch: int,
    learning_rate: float,
    seed: int,
    half: torch.dtype | None,
    optimizer: Optimizer = "adamw",
    max_grad_norm: float | None = 1.0,
) -> SftTrainer:
    """A trainer that goes once through *examples*, in their order, at a constant rate.

    folder: where the trainer thinks that it writes. half: the base's dtype where it is a half precision. max_grad_norm:
    None clips nothing.
    """
    micro = micro_batch_of(batch_size, micro_batch)
    on_cpu = next(iter(lent.adapter.values())).device.type == "cpu"
    config = SFTConfig(
        output_dir=folder,
        max_steps=len(examples) // batch_size,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch_size // micro,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=max_grad_norm or 0.0,  # transformers' word for no clipping
        optim=_OPTIMIZERS[optimizer],
        bf16=half == torch.bfloat16,
        fp16=half == torch.float16,
        gradient_checkpointing=False,
        use_cpu=on_cpu,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=not on_cpu,
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )
    trainer = SftTrainer(
        model=lent.model,
        args=config,
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer,
        data_collator=collate,  # one of ours, so that TRL sets no padding token in tokenizer and model
    )
    trainer.remove_callback(PrinterCallback)
    for parameter in lent.adapter.values():
        parameter.data = parameter.data.float()  # TRL casts to bfloat16 under quantisation, where small steps vanish
    set_seed(seed)  # building drew from it
    return trainer
