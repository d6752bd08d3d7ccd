"""Trains for one step and drops the result, so that a base that cannot be trained shows before the first round."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from agent.errors import TaskFailed
from agent.train.base.model import Base
from agent.train.base.refusals import untrainable
from agent.train.data.tokens import Samples
from agent.train.kinds.base import KindTraining
from agent.train.process import memory
from agent.train.stack import OWN_STACK
from agent.train.stack.base import Training
from agent.train.stack.training import TRAINER_FOLDER_PREFIX, make_examples, train_with
from agent.train.trainer.arguments import TrainerSettings, micro_batch_of
from agent.train.trainer.client_steps import ClientSteps
from shared.algorithms import AlgorithmParams, ClientHalf
from shared.campaign.spec import LoraSection, TrainingSection
from shared.wire.tasks.leases import FailureKind

log = logging.getLogger(__name__)

_MOST_ROWS = 2
"""Enough to show whether a step works: what fits is not known yet, and even the shortest rows may be long."""


def try_a_step(
    training: KindTraining[Any],
    kind: str,
    base: Base,
    lora: LoraSection,
    section: TrainingSection,
    samples: Samples,
    tokenizer: Any,
    *,
    micro_batch: int,
    folder: Path,
) -> None:
    """Train for one step of one micro-batch, of the shortest rows. Raises TaskFailed (base-model) if that fails.

    Args:
        training: the agent half of the kind of training.
        kind: its name.
        base: the base model, which is left as it was.
        lora: the campaign's adapter.
        section: the campaign's training.
        samples: the owner's rows.
        tokenizer: the base model's.
        micro_batch: the most rows that go through the model at once.
        folder: the task's.
    """
    n_rows = micro_batch_of(section.batch_size, min(micro_batch, _MOST_ROWS))
    shortest = np.resize(np.argsort(samples.lengths, kind="stable"), n_rows)  # (n_rows,)
    reference = np.zeros((n_rows, samples.n_completions)) if training.needs_reference else None
    with (
        _in_words(kind),
        base.adapter(lora, seed=0) as attached,
        tempfile.TemporaryDirectory(dir=folder, prefix=TRAINER_FOLDER_PREFIX) as trainer_folder,
    ):
        attached.draw(seed=0)
        settings = TrainerSettings(
            folder=trainer_folder,
            training=section.model_copy(update={"batch_size": n_rows, "warmup_steps": 0}),
            learning_rate=section.learning_rate,
            micro_batch=n_rows,
            seed=0,
            autocast_dtype=base.autocast_dtype,
        )
        step = Training(
            kind=kind,
            kind_training=training,
            language_model=base.language_model,
            attached=attached,
            examples=make_examples(training, kind, samples, shortest, reference),
            tokenizer=tokenizer,
            settings=settings,
            client_steps=ClientSteps(ClientHalf(AlgorithmParams(), {}), attached.trained_parameters),
        )
        train_with(OWN_STACK, step)


@contextmanager
def _in_words(kind: str) -> Iterator[None]:
    """Raise TaskFailed (base-model) for what a step of training raises, but not if memory or the disk was exhausted."""
    try:
        yield
    except TaskFailed as error:
        if error.failure.kind is FailureKind.CRASH:  # the loss is not finite
            raise untrainable("its loss in training mode is not finite") from error
        raise
    except OSError:  # of this machine's disk
        raise
    except Exception as error:
        if memory.is_exhausted(error):
            raise
        log.warning("one step of training fails", exc_info=True)
        raise untrainable(f"one step of {kind} fails with {type(error).__name__}; see the agent's log") from error
