"""The arguments that TRL's trainers of all kinds take."""

from dataclasses import dataclass
from typing import Any

import torch

from agent.train.base.attached import AttachedAdapter
from shared.campaign.spec import TrainingSection

_OPTIMIZERS = {"adamw": "adamw_torch", "sgd": "sgd"}


def micro_batch_of(batch_size: int, limit: int) -> int:
    """The rows that go through the model at once: the largest divisor of *batch_size* up to *limit*, at least 1."""
    return next(size for size in range(min(batch_size, max(limit, 1)), 0, -1) if batch_size % size == 0)


@dataclass(frozen=True)
class TrainerSettings:
    """How a trainer passes once over its examples, in their order.

    Attributes:
        folder: TRL's output folder, although the trainer saves nothing.
        training: the campaign's section.
        learning_rate: the round's rate, after the warm-up.
        micro_batch: rows that go through the model at once; it divides a process's rows of a step.
        seed: of dropout, and of all that libraries draw.
        autocast_dtype: the base's dtype if it is bfloat16 or float16, else None.
        recomputes: whether layers keep only their inputs for the backward pass.
        n_processes: how many processes divide each step among them.
    """

    folder: str
    training: TrainingSection
    learning_rate: float
    micro_batch: int
    seed: int
    autocast_dtype: torch.dtype | None
    recomputes: bool = False
    n_processes: int = 1

    def training_arguments(self, attached: AttachedAdapter, n_examples: int) -> dict[str, Any]:
        """The arguments that all of TRL's configurations take."""
        training = self.training
        on_cpu = next(iter(attached.parameters.values())).device.type == "cpu"
        return {
            "output_dir": self.folder,
            "max_steps": n_examples // training.batch_size,
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": training.batch_size // (self.micro_batch * self.n_processes),
            "learning_rate": self.learning_rate,
            "warmup_steps": training.warmup_steps,  # the schedule is FederatedTrainerMixin's
            "weight_decay": training.weight_decay,
            "max_grad_norm": training.max_grad_norm or 0.0,  # for transformers, 0 disables clipping
            "optim": _OPTIMIZERS[training.optimizer],
            "bf16": self.autocast_dtype == torch.bfloat16,
            "fp16": self.autocast_dtype == torch.float16,
            "gradient_checkpointing": False,
            "use_cpu": on_cpu,
            "average_tokens_across_devices": True,  # a mean over a step's tokens is over those of all processes
            "ddp_find_unused_parameters": True,  # an expert may not be chosen
            "train_sampling_strategy": "sequential",
            "max_length": None,
            # the loss is that of the tokens: the experts of a mixture stay frozen, so their balance is no part of it
            "router_aux_loss_coef": 0.0,
            "remove_unused_columns": False,
            "dataloader_num_workers": 0,
            "dataloader_pin_memory": not on_cpu,
            "save_strategy": "no",
            "logging_strategy": "no",
            "logging_nan_inf_filter": False,
            "report_to": "none",
            "disable_tqdm": True,
            "seed": self.seed,
            "data_seed": self.seed,
        }
