"""Supervised fine-tuning by TRL's SFT trainer; see ``shared.kinds.sft``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from trl import SFTConfig, SFTTrainer

from agent.train.base.attached import AttachedAdapter
from agent.train.data.tokens import Samples
from agent.train.kinds.base import KindTraining
from agent.train.trainer.arguments import TrainerSettings
from agent.train.trainer.federated import FederatedTrainerMixin
from agent.train.trainer.loss import collate, score_only_supervised
from agent.train.trainer.scoring import Scoring
from shared.kinds.sft import Section
from shared.metrics import HELD_OUT_LOSS


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
        score_only_supervised(self.model.get_base_model())


class Training(KindTraining[Section]):
    """One completion a row, in the form of ``TokenRows.example``."""

    def examples(
        self,
        samples: Samples,
        indices: NDArray[np.int64],
        reference: NDArray[np.float64] | None,  # noqa: ARG002
    ) -> list[dict[str, Any]]:
        return [dict(example) for index in indices for example in samples.examples(index)]

    def trainer(
        self,
        attached: AttachedAdapter,
        examples: Sequence[Mapping[str, Any]],
        tokenizer: Any,
        settings: TrainerSettings,
    ) -> SftTrainer:
        return SftTrainer(
            model=attached.model,
            args=SFTConfig(
                **settings.training_arguments(attached, len(examples)), dataset_kwargs={"skip_prepare_dataset": True}
            ),
            train_dataset=Dataset.from_list(list(examples)),
            processing_class=tokenizer,
            data_collator=collate,  # given, so that TRL sets no padding token in tokenizer and model
        )

    def evaluate(
        self,
        model: Any,
        samples: Samples,
        reference: NDArray[np.float64] | None,  # noqa: ARG002
        scoring: Scoring,
    ) -> dict[str, float]:
        """The mean loss over all supervised tokens, in nats a token."""
        rows = samples.completions
        log_probs = scoring.log_probabilities(model, rows)  # (n,)
        return {HELD_OUT_LOSS: -float(log_probs.sum()) / int(rows.n_supervised.sum())}
