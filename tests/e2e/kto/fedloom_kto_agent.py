"""Kahneman-Tversky optimisation by TRL's KTO trainer."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from fedloom_kto import Section
from trl import KTOConfig, KTOTrainer

from agent.train.data.tokens import IGNORED
from agent.train.kinds import KindTraining
from agent.train.trainer.federated import FederatedTrainerMixin
from agent.train.trainer.loss import collate
from agent.train.trainer.reference import without_reference_adapter


class KtoTrainer(FederatedTrainerMixin, KTOTrainer):
    def __init__(self, *args: Any, model: Any, processing_class: Any, **kwargs: Any) -> None:
        with without_reference_adapter(model, processing_class):  # without it, TRL switches the adapter off
            super().__init__(*args, model=model, processing_class=processing_class, **kwargs)

    def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
        return dataset  # already tokenised


class Training(KindTraining[Section]):
    needs_reference = True

    def examples(self, samples: Any, indices: Any, reference: Any) -> list[dict[str, Any]]:
        labels = samples.labels[indices, 0] > 0
        return [
            {**samples.examples(index)[0], "label": bool(label)} for index, label in zip(indices, labels, strict=True)
        ]

    def trainer(self, attached: Any, examples: Any, tokenizer: Any, settings: Any) -> KtoTrainer:
        arguments = settings.training_arguments(attached, len(examples))
        return KtoTrainer(
            model=attached.model,
            args=KTOConfig(**arguments, beta=self.section.beta),
            train_dataset=Dataset.from_list(examples),
            processing_class=tokenizer,
            data_collator=batch_of,
        )

    def evaluate(self, model: Any, samples: Any, reference: Any, scoring: Any) -> dict[str, float]:
        """Eq. 7 of the paper with the reference point 0, and the share of rows whose reward has the label's sign."""
        log_probs = scoring.log_probabilities(model, samples.completions)
        wanted = np.where(samples.labels[:, 0] > 0, 1.0, -1.0)  # (n,)
        gains = wanted * self.section.beta * (log_probs - reference[:, 0])
        return {
            "held_out_loss": float(np.mean(1 / (1 + np.exp(gains)))),
            "held_out_agreement": float(np.mean(gains > 0)),
        }


def batch_of(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """n rows, and the n prompts again with the completion of the next row, for the KL term."""
    mismatched = []
    for example, other in zip(examples, examples[1:] + examples[:1], strict=True):
        prompt, answer = example["labels"].count(IGNORED), other["labels"].count(IGNORED)
        ids = example["input_ids"][:prompt] + other["input_ids"][answer:]
        mismatched.append({"input_ids": ids, "labels": [IGNORED] * prompt + other["input_ids"][answer:]})
    batch = {"label": torch.tensor([example["label"] for example in examples])}
    for prefix, rows in (("", examples), ("KL_", mismatched)):
        padded = collate(rows)
        padded["completion_mask"] = (padded.pop("labels") != IGNORED).long()
        batch |= {prefix + name: values for name, values in padded.items()}
    return batch
