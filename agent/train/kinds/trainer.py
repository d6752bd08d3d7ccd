"""TRL's trainers for one client in one round: supervised fine-tuning, and direct preference optimisation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from datasets import Dataset
from transformers import PrinterCallback, Trainer, set_seed
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from agent.train.base.model import AttachedAdapter
from agent.train.kinds.federated import FederatedTrainerMixin
from agent.train.kinds.loss import collate, collate_pairs, score_only_supervised, select_supervised
from shared.campaign import DpoSection

Optimizer = Literal["adamw", "sgd"]
_OPTIMIZERS = {"adamw": "adamw_torch", "sgd": "sgd"}
T = TypeVar("T", bound=Trainer)


class SftTrainer(FederatedTrainerMixin, SFTTrainer):
    """Supervised fine-tuning: the mean loss over an optimizer step's supervised tokens.

    It does not depend on how the step is divided into micro-batches.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Makes the Trainer count the supervised tokens of a whole step. Otherwise models whose forward takes no further
        # arguments would get a mean of micro-batch means.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        rest = {key: value for key, value in inputs.items() if key != "labels"}
        with select_supervised(self.model.get_base_model(), inputs["labels"]) as targets:  # (1, supervised tokens)
            rest["shift_labels"] = targets
            return super().compute_loss(model, rest, return_outputs, num_items_in_batch)


class DpoTrainer(FederatedTrainerMixin, DPOTrainer):
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7), or another of TRL's preference losses.

    The loss is the mean over an optimizer step's pairs of
    −log σ(β (log π(chosen)/π_ref(chosen) − log π(rejected)/π_ref(rejected))). Micro-batches have equal sizes, so the
    mean of their means is the mean of the step.

    π_ref is the same in every round, and its log-probabilities come with the examples. TRL's own reference would be the
    adapter that the round starts from.
    """

    def __init__(self, *args: Any, model: Any, processing_class: Any, **kwargs: Any) -> None:
        frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        pad_token = processing_class.pad_token
        try:
            super().__init__(*args, model=model, processing_class=processing_class, **kwargs)
        finally:
            processing_class.pad_token = pad_token  # TRL sets one if the tokenizer has none
        score_only_supervised(model.get_base_model())
        model.delete_adapter("ref")  # TRL's copy of the adapter that training starts from
        # Set here, not as an argument: TRL would compute the reference again, and digest the whole model.
        self.precompute_ref_logps = True
        for parameter in frozen:  # PEFT makes all parameters of an adapter trainable when it activates one
            parameter.requires_grad_(False)

    def step_rewards(self) -> tuple[float, float]:
        """Mean margin and accuracy of the pairs since the last call."""
        metrics = self._metrics["train"]
        margins, accuracies = metrics["rewards/margins"], metrics["rewards/accuracies"]
        means = math.fsum(margins) / len(margins), math.fsum(accuracies) / len(accuracies)
        metrics.clear()  # TRL collects them until it logs, which it never does here
        return means

    def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
        return dataset  # already tokenised


def micro_batch_of(batch_size: int, limit: int) -> int:
    """The rows that go through the model at once: the largest divisor of *batch_size* up to *limit*, at least 1."""
    return max(size for size in range(1, batch_size + 1) if batch_size % size == 0 and size <= max(limit, 1))


@dataclass(frozen=True)
class TrainerSettings:
    """How a trainer passes once over its examples, in their order, at a constant learning rate.

    Attributes:
        folder: TRL's output folder, although the trainer saves nothing.
        batch_size: rows, or pairs in DPO, of an optimizer step.
        micro_batch: the limit of rows, or pairs, that go through the model at once; see ``micro_batch_of``.
        learning_rate: the same for all steps.
        seed: of dropout, and of all that libraries draw.
        autocast_dtype: the base's dtype if it is bfloat16 or float16, else None.
        optimizer: "adamw" or "sgd", without weight decay.
        max_grad_norm: the norm that gradients are clipped to; None disables clipping.
    """

    folder: str
    batch_size: int
    micro_batch: int
    learning_rate: float
    seed: int
    autocast_dtype: torch.dtype | None
    optimizer: Optimizer = "adamw"
    max_grad_norm: float | None = 1.0

    def training_arguments(self, attached: AttachedAdapter, n_examples: int) -> dict[str, Any]:
        """The arguments that both of TRL's configurations take."""
        micro_batch = micro_batch_of(self.batch_size, self.micro_batch)
        on_cpu = next(iter(attached.parameters.values())).device.type == "cpu"
        return {
            "output_dir": self.folder,
            "max_steps": n_examples // self.batch_size,
            "per_device_train_batch_size": micro_batch,
            "gradient_accumulation_steps": self.batch_size // micro_batch,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0,
            "weight_decay": 0.0,
            "max_grad_norm": self.max_grad_norm or 0.0,  # for transformers, 0 disables clipping
            "optim": _OPTIMIZERS[self.optimizer],
            "bf16": self.autocast_dtype == torch.bfloat16,
            "fp16": self.autocast_dtype == torch.float16,
            "gradient_checkpointing": False,
            "use_cpu": on_cpu,
            "train_sampling_strategy": "sequential",
            "max_length": None,
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


def sft_trainer(
    attached: AttachedAdapter, examples: Sequence[Mapping[str, Any]], tokenizer: Any, settings: TrainerSettings
) -> SftTrainer:
    """Build a trainer for *examples* in the form of ``TokenRows.example``."""
    with attached.keep_float32():  # on a quantised base TRL rounds adapters to bfloat16, in which small steps vanish
        trainer = SftTrainer(
            model=attached.model,
            args=SFTConfig(
                **settings.training_arguments(attached, len(examples)), dataset_kwargs={"skip_prepare_dataset": True}
            ),
            train_dataset=Dataset.from_list(list(examples)),
            processing_class=tokenizer,
            data_collator=collate,  # given, so that TRL sets no padding token in tokenizer and model
        )
    return _ready(trainer, settings.seed)


def dpo_trainer(
    attached: AttachedAdapter,
    examples: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    settings: TrainerSettings,
    dpo: DpoSection,
) -> DpoTrainer:
    """Build a trainer for *examples* in the form of ``PairRows.example``, without dropout.

    Each example also has ``ref_chosen_logps`` and ``ref_rejected_logps``, the reference's log-probabilities in nats.
    Dropout would blur the log ratios.
    """
    with attached.keep_float32():  # as above
        trainer = DpoTrainer(
            model=attached.model,
            args=DPOConfig(
                **settings.training_arguments(attached, len(examples)),
                beta=dpo.beta,
                loss_type=[dpo.loss],
                label_smoothing=dpo.label_smoothing,
                disable_dropout=True,
            ),
            train_dataset=Dataset.from_list(list(examples)),
            processing_class=tokenizer,
            data_collator=collate_pairs,
        )
    return _ready(trainer, settings.seed)


def _ready(trainer: T, seed: int) -> T:
    trainer.remove_callback(PrinterCallback)
    set_seed(seed)  # again, because building the trainer draws random numbers
    return trainer
