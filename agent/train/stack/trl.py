"""Fedloom's own trainer: transformers loads, PEFT attaches, and TRL's trainers, one a kind, train."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.train.base.attached import AttachedAdapter
from agent.train.base.loading import PlainLoader
from agent.train.data.tokens import TokenRows
from agent.train.kinds.base import KindTraining
from agent.train.stack import base
from agent.train.trainer.arguments import TrainerSettings
from agent.train.trainer.federated import FederatedTrainerMixin
from agent.train.trainer.head import use_own_head
from agent.train.trainer.recomputing import recomputed
from agent.train.trainer.scoring import Scoring, plain_scorer


class Stack(PlainLoader, base.Stack):
    """transformers, PEFT and TRL."""

    resumes = True

    def train(self, training: base.Training) -> None:
        checkpoints = training.checkpoints
        done = checkpoints.steps_done if checkpoints is not None else 0
        remaining = training.examples[done * training.settings.training.batch_size :]
        trainer = build_trainer(
            training.kind_training,
            training.language_model,
            training.attached,
            # after a crash past the last step nothing remains, but a trainer cannot be built without examples
            remaining or training.examples,
            training.tokenizer,
            training.settings,
        )
        trainer.attach(training.client_steps, training.group)
        if checkpoints is not None:
            checkpoints.attach_to(trainer, training.attached.trained_parameters)
        if remaining:
            with recomputed(training.language_model, recomputes=training.settings.recomputes):
                trainer.train()

    def evaluate(self, model: Any, rows: TokenRows, scoring: Scoring) -> NDArray[np.float64]:
        return plain_scorer(model, rows, scoring)


def build_trainer(
    training: KindTraining[Any],
    language_model: Any,
    attached: AttachedAdapter,
    examples: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    settings: TrainerSettings,
) -> FederatedTrainerMixin:
    """Build a trainer that passes once over *examples*, with the head that the base needs."""
    with attached.keep_float32():  # on a quantised base TRL rounds adapters to bfloat16, in which small steps vanish
        trainer = training.trainer(attached, examples, tokenizer, settings)
    use_own_head(language_model)  # after TRL has added its fused head, whatever the kind of training
    return trainer
