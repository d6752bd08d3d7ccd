"""Direct preference optimisation by TRL's DPO trainer; see ``shared.kinds.dpo``."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from trl import DPOConfig, DPOTrainer

from agent.train.base.attached import AttachedAdapter
from agent.train.data.tokens import IGNORED, Samples
from agent.train.kinds.base import KindTraining
from agent.train.trainer.arguments import TrainerSettings
from agent.train.trainer.federated import FederatedTrainerMixin
from agent.train.trainer.loss import collate, score_only_supervised
from agent.train.trainer.reference import without_reference_adapter
from agent.train.trainer.scoring import Scoring
from shared.kinds.dpo import Section
from shared.metrics import HELD_OUT_LOSS

_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


class DpoTrainer(FederatedTrainerMixin, DPOTrainer):
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7), or another of TRL's preference losses.

    The loss is the mean over an optimizer step's pairs of
    −log σ(β (log π(chosen)/π_ref(chosen) − log π(rejected)/π_ref(rejected))). Micro-batches have equal sizes, so the
    mean of their means is the mean of the step.

    π_ref is the same in every round, and its log-probabilities come with the examples. TRL's own reference would be the
    adapter that the round starts from.
    """

    def __init__(self, *args: Any, model: Any, processing_class: Any, **kwargs: Any) -> None:
        with without_reference_adapter(model, processing_class):
            super().__init__(*args, model=model, processing_class=processing_class, **kwargs)
        score_only_supervised(model.get_base_model())
        # Set here, not as an argument: TRL would compute the reference again, and digest the whole model.
        self.precompute_ref_logps = True

    def step_metrics(self) -> dict[str, float]:
        """Mean margin and accuracy of the pairs since the last call."""
        metrics = self._metrics["train"]
        means = {
            "reward_margin": _mean(metrics["rewards/margins"]),
            "reward_accuracy": _mean(metrics["rewards/accuracies"]),
        }
        metrics.clear()  # TRL collects them until it logs, which it never does here
        return means

    def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
        return dataset  # already tokenised


class Training(KindTraining[Section]):
    """Pairs, without dropout, which would blur the log ratios."""

    needs_reference = True

    def examples(
        self,
        samples: Samples,
        indices: NDArray[np.int64],
        reference: NDArray[np.float64] | None,
    ) -> list[dict[str, Any]]:
        """``chosen`` and ``rejected`` of each pair, and the reference's log-probabilities of both, in nats."""
        assert reference is not None
        return [
            dict(zip(("chosen", "rejected", *_REFERENCE), (*samples.examples(index), *log_probs), strict=True))
            for index, log_probs in zip(indices, reference.tolist(), strict=True)
        ]

    def trainer(
        self,
        attached: AttachedAdapter,
        examples: Sequence[Mapping[str, Any]],
        tokenizer: Any,
        settings: TrainerSettings,
    ) -> DpoTrainer:
        return DpoTrainer(
            model=attached.model,
            args=DPOConfig(
                **settings.training_arguments(attached, len(examples)),
                beta=self.section.beta,
                loss_type=[self.section.loss],
                label_smoothing=self.section.label_smoothing,
                disable_dropout=True,
            ),
            train_dataset=Dataset.from_list(list(examples)),
            processing_class=tokenizer,
            data_collator=collate_pairs,
        )

    def evaluate(
        self, model: Any, samples: Samples, reference: NDArray[np.float64] | None, scoring: Scoring
    ) -> dict[str, float]:
        """The paper's loss, whichever loss is trained: the mean of −log σ(margin), in nats a pair.

        A completion y has the reward r(y) = β (log π(y) − log π_ref(y)): Rafailov et al. 2023, section 4 and eq. 7.
        """
        assert reference is not None
        log_probs = scoring.log_probabilities(model, samples.completions)  # (2n,)
        rewards = self.section.beta * (log_probs.reshape(-1, 2) - reference)  # (n, 2)
        margins = rewards[:, 0] - rewards[:, 1]  # (n,)
        return {
            HELD_OUT_LOSS: float(np.logaddexp(0.0, -margins).mean()),
            "held_out_margin": float(margins.mean()),
            "held_out_accuracy": float((margins > 0).mean()),
        }


def collate_pairs(examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Pad n pairs into the batch that TRL's DPO takes, all chosen completions before all rejected ones.

    ``input_ids``, ``attention_mask`` and ``completion_mask`` are (2n, longest completion) int64. ``ref_chosen_logps``
    and ``ref_rejected_logps`` are (n,) float32.
    """
    completions = [example[name] for name in ("chosen", "rejected") for example in examples]
    batch = collate(completions)
    batch["completion_mask"] = (batch.pop("labels") != IGNORED).long()
    for name in _REFERENCE:
        batch[name] = torch.tensor([example[name] for example in examples], dtype=torch.float32)
    return batch


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
