"""The interface of a trainer, in code a stack: what loads a base model, attaches adapters, trains and evaluates.

Fedloom's own is ``trl``. An owner's is a module with a class ``Stack``, which an installed distribution names by an
entry point of the group ``fedloom.trainers``, and the owner by ``compute.trainer``. Everything around it stays
Fedloom's: the files of the base, the rows and their order, the kind's metrics, the algorithm, what is sent. Each
training is checked (``training``), and before a trainer's first use with a base its results are compared with those of
Fedloom's own (``agent.train.jobs.trainer_verdict``).
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from agent.train.base.attached import AttachedAdapter
from agent.train.base.loading import Loader
from agent.train.data.tokens import TokenRows
from agent.train.distributed.group import ALONE, Group
from agent.train.kinds.base import KindTraining
from agent.train.trainer.arguments import TrainerSettings
from agent.train.trainer.checkpoint import CheckpointCallback
from agent.train.trainer.client_steps import ClientSteps, warmed_up
from agent.train.trainer.scoring import Scoring

Example = Mapping[str, Any]


class UnfitForTrainer(Exception):
    """A stack cannot do what a campaign asks for. Its text is a reason in words, which may leave this machine."""


@dataclass(frozen=True)
class Training:
    """A training of one client in one round.

    Attributes:
        kind: the kind of training, by its name.
        kind_training: its agent half, with the campaign's parameters (``section``).
        language_model: the bare model inside of ``attached.model``.
        attached: the adapter, with the values that the training starts from. Its parameters are trained in place.
        examples: in their order, ``settings.training.batch_size`` for each step; of ``sft`` dicts of ``input_ids`` and
            ``labels``, two lists of equal length, with −100 where no loss is taken.
        tokenizer: the base model's.
        settings: the campaign's section, the round's rate, the micro-batch, the precision.
        client_steps: the algorithm's client half, told of each step.
        checkpoints: where states are kept; None if there are none, and of a stack that does not resume.
        group: the processes that train together; of an owner's stack this one alone.
    """

    kind: str
    kind_training: KindTraining[Any]
    language_model: Any
    attached: AttachedAdapter
    examples: Sequence[Example]
    tokenizer: Any
    settings: TrainerSettings
    client_steps: ClientSteps
    checkpoints: CheckpointCallback | None = None
    group: Group = ALONE

    @property
    def learning_rate(self) -> float:
        """The rate of the next step: that of the round, less in the warm-up."""
        settings = self.settings
        steps = self.client_steps.history.steps
        return settings.learning_rate * warmed_up(steps, settings.training.warmup_steps)

    def steps(self) -> Iterator[Sequence[Example]]:
        """The examples of each step, in their order."""
        size = self.settings.training.batch_size
        for begin in range(0, len(self.examples), size):
            yield self.examples[begin : begin + size]


class Stack(Loader):
    """Loads, attaches, trains and evaluates. One instance serves a training child for its life."""

    resumes: ClassVar[bool] = False
    """Whether a training takes up its checkpoint. Without, an interrupted one starts over."""

    @property
    def identity(self) -> str:
        """Its name, with the distribution that provides it and its version. Set by Fedloom."""
        return ""

    @abstractmethod
    def train(self, training: Training) -> None:
        """Pass once over the examples: the kind's mean loss over the examples of a step, backward, and the gradient
        clipped to ``training.max_grad_norm`` unless that is None; then a step of the campaign's optimizer at
        ``learning_rate``.

        Each step calls ``client_steps.add_gradient_terms`` before it clips, and ``client_steps.stepped`` after the
        optimizer's step. Raises UnfitForTrainer for a kind or an optimizer that it does not have.
        """

    @abstractmethod
    def evaluate(self, model: Any, rows: TokenRows, scoring: Scoring) -> NDArray[np.float64]:
        """Return Σ log p over the supervised tokens of each of n *rows*, in nats, (n,), float64.

        Held-out metrics and the reference model of preferences are computed of them.

        Args:
            model: what ``attach`` returned, or what ``load`` returned.
            rows: token rows; the first token of a row is never supervised.
            scoring: the micro-batch, the precision, and the function that is told of progress.
        """
