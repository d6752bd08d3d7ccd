"""Makes a training's examples, has a trainer train with them, and checks that it did what it was asked for."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agent.errors import TaskFailed
from agent.train.base.attached import AttachedAdapter
from agent.train.data.tokens import Samples
from agent.train.kinds.base import KindTraining
from agent.train.stack.base import Stack, Training
from agent.train.stack.handed_out import HandedOut
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


def train_with(stack: Stack, training: Training) -> None:
    """Have *stack* do the training, and check it. Raises TaskFailed (trainer), and what the stack raises."""
    attached = training.attached
    frozen = {name: each.detach().clone() for name, each in attached.parameters.items() if not each.requires_grad}
    examples, batch_size = HandedOut(training.examples), training.settings.training.batch_size
    stack.train(replace(training, examples=examples))
    steps, done = len(examples) // batch_size, training.client_steps.history.done
    resumed = training.checkpoints.steps_done if training.checkpoints is not None else 0
    if done != steps:
        raise stack.refused(f"in training it reported {done} of {steps} steps")
    if left := examples.left(resumed * batch_size):
        raise stack.refused(f"in training it left out {left} of {len(examples)} rows of the round")
    if problem := _problem_of(attached, frozen):
        raise stack.refused(f"in training {problem}")


def _problem_of(attached: AttachedAdapter, frozen: dict[str, torch.Tensor]) -> str | None:
    """What a training did to an adapter that it must not do. frozen: its frozen tensors as they were."""
    of_model = {id(each): each for each in attached.model.parameters()}
    if any(id(each) not in of_model for each in attached.parameters.values()):
        return "it put other tensors in the place of the adapter's, so what was trained is not what is sent"
    own = {id(each) for each in attached.parameters.values()}
    if any(each.requires_grad for key, each in of_model.items() if key not in own):
        return "it made the base model's weights trainable"
    changed = [name for name, before in frozen.items() if not torch.equal(attached.parameters[name], before)]
    return f"it changed {len(changed)} frozen tensors, {changed[0]} among them" if changed else None
