"""TRL's trainers for one round of a client: supervised fine-tuning, and preference optimisation."""

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
from agent.train.kinds.loss import collate, collate_pairs, only_supervised, score_supervised_alone
from shared.campaign import DpoSection

Optimizer = Literal["adamw", "sgd"]
_OPTIMIZERS = {"adamw": "adamw_torch", "sgd": "sgd"}
T = TypeVar("T", bound=Trainer)


class SftTrainer(FederatedTrainerMixin, SFTTrainer):
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


class DpoTrainer(FederatedTrainerMixin, DPOTrainer):
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7): the mean over an optimizer step's pairs of
    −log σ(β (log π(chosen)/π_ref(chosen) − log π(rejected)/π_ref(rejected))), or another of TRL's losses.

    π_ref is the same in every round, and its log-probabilities come with the examples: TRL's own reference would be the
    adapter that the round starts from. The mean of equal micro-batches' means is the mean of the step.
    """

    def __init__(self, *args: Any, model: Any, processing_class: Any, **kwargs: Any) -> None:
        frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        pad_token = processing_class.pad_token
        try:
            super().__init__(*args, model=model, processing_class=processing_class, **kwargs)
        finally:
            processing_class.pad_token = pad_token  # TRL sets one where there is none
        score_supervised_alone(model.get_base_model())
        model.delete_adapter("ref")  # TRL's copy of the adapter that training starts from
        self.precompute_ref_logps = True  # not as an argument: TRL would find them anew, and digest the whole model
        for parameter in frozen:  # PEFT makes all of an adapter trainable whenever it is switched on
            parameter.requires_grad_(False)

    def step_rewards(self) -> tuple[float, float]:
        """Mean margin and accuracy of the pairs since the last call."""
        told = self._metrics["train"]
        margins, accuracies = told["rewards/margins"], told["rewards/accuracies"]
        mean = math.fsum(margins) / len(margins), math.fsum(accuracies) / len(accuracies)
        told.clear()  # TRL gathers them until it logs, which it never does here
        return mean

    def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
        return dataset  # it is tokenised


def micro_batch_of(batch_size: int, limit: int) -> int:
    """Rows that go through the model at once: the largest divisor of *batch_size* that is at most *limit*."""
    return max(size for size in range(1, batch_size + 1) if batch_size % size == 0 and size <= max(limit, 1))


@dataclass(frozen=True)
class Recipe:
    """How a trainer goes once through its examples, in their order, at a constant rate.

    folder: where the trainer thinks that it writes. half: the base's dtype where it is a half precision. max_grad_norm:
    None clips nothing.
    """

    folder: str
    batch_size: int
    micro_batch: int
    learning_rate: float
    seed: int
    half: torch.dtype | None
    optimizer: Optimizer = "adamw"
    max_grad_norm: float | None = 1.0

    def arguments(self, attached: AttachedAdapter, n_examples: int) -> dict[str, Any]:
        """What both of TRL's configurations take."""
        micro = micro_batch_of(self.batch_size, self.micro_batch)
        on_cpu = next(iter(attached.adapter.values())).device.type == "cpu"
        return {
            "output_dir": self.folder,
            "max_steps": n_examples // self.batch_size,
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": self.batch_size // micro,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0,
            "weight_decay": 0.0,
            "max_grad_norm": self.max_grad_norm or 0.0,  # transformers' word for no clipping
            "optim": _OPTIMIZERS[self.optimizer],
            "bf16": self.half == torch.bfloat16,
            "fp16": self.half == torch.float16,
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
    attached: AttachedAdapter, examples: Sequence[Mapping[str, Any]], tokenizer: Any, recipe: Recipe
) -> SftTrainer:
    """A trainer for *examples*, each as ``TokenRows`` gives it."""
    with attached.keep_float32():  # under quantisation TRL rounds adapters to bfloat16, where small steps vanish
        trainer = SftTrainer(
            model=attached.model,
            args=SFTConfig(**recipe.arguments(attached, len(examples)), dataset_kwargs={"skip_prepare_dataset": True}),
            train_dataset=Dataset.from_list(list(examples)),
            processing_class=tokenizer,
            data_collator=collate,  # one of ours, so that TRL sets no padding token in tokenizer and model
        )
    return _ready(trainer, recipe)


def dpo_trainer(
    attached: AttachedAdapter, examples: Sequence[Mapping[str, Any]], tokenizer: Any, recipe: Recipe, dpo: DpoSection
) -> DpoTrainer:
    """A trainer for *examples*, each as ``PairRows`` gives it, with the reference's log-probabilities of its sides as
    ``ref_chosen_logps`` and ``ref_rejected_logps``; without dropout, which would blur the log ratios."""
    with attached.keep_float32():  # as above
        trainer = DpoTrainer(
            model=attached.model,
            args=DPOConfig(
                **recipe.arguments(attached, len(examples)),
                beta=dpo.beta,
                loss_type=[dpo.loss],
                label_smoothing=dpo.label_smoothing,
                disable_dropout=True,
            ),
            train_dataset=Dataset.from_list(list(examples)),
            processing_class=tokenizer,
            data_collator=collate_pairs,
        )
    return _ready(trainer, recipe)


def _ready(trainer: T, recipe: Recipe) -> T:
    trainer.remove_callback(PrinterCallback)
    set_seed(recipe.seed)  # building drew from it
    return trainer
