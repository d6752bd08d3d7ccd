"""Builds the trainer of a kind of training, and its examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import TaskFailed
from agent.train.base.attached import AttachedAdapter
from agent.train.base.model import Base
from agent.train.data.tokens import Samples
from agent.train.kinds.base import KindTraining
from agent.train.trainer.arguments import TrainerSettings
from agent.train.trainer.federated import FederatedTrainerMixin
from agent.train.trainer.head import use_own_head
from shared.wire.tasks.leases import FailureKind

TRAINER_FOLDER_PREFIX = "trainer-"
"""The prefix of the trainers' temporary folders inside a task's folder."""


def make_examples(
    training: KindTraining[Any],
    kind: str,
    samples: Samples,
    indices: NDArray[np.int64],
    reference: NDArray[np.float64] | None,
) -> list[dict[str, Any]]:
    """Return one example for each of the k rows at *indices*. Raises TaskFailed (training-kind).

    Args:
        training: the agent half of the kind.
        kind: its name.
        samples: all rows.
        indices: (k,).
        reference: Σ log p of the rows' completions under the reference model, in nats, (k, completions); or None.
    """
    examples = training.examples(samples, indices, reference)
    if len(examples) != len(indices):
        message = f"the kind {kind} made {len(examples)} examples of {len(indices)} rows"
        raise TaskFailed(FailureKind.TRAINING_KIND, message)
    return examples


def build_trainer(
    training: KindTraining[Any],
    base: Base,
    attached: AttachedAdapter,
    examples: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    settings: TrainerSettings,
) -> FederatedTrainerMixin:
    """Build a trainer that passes once over *examples*, with the head that the base needs."""
    with attached.keep_float32():  # on a quantised base TRL rounds adapters to bfloat16, in which small steps vanish
        trainer = training.trainer(attached, examples, tokenizer, settings)
    use_own_head(base.language_model)  # after TRL has added its fused head, whatever the kind of training
    return trainer
