"""An owner's trainer as Fedloom uses it: what it raises becomes a failure in words, what it returns is checked."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel

from agent.errors import TaskFailed
from agent.train.base.loading import ModelSource
from agent.train.data.tokens import TokenRows
from agent.train.process import memory
from agent.train.stack.base import Stack, Training, UnfitForTrainer
from agent.train.trainer.scoring import Scoring
from shared.campaign.spec import LoraSection
from shared.wire.tasks.leases import FailureKind

log = logging.getLogger(__name__)


class CheckedStack(Stack):
    """A stack of the owner's.

    Args:
        stack: the owner's.
        name: as in agent.toml.
        identity: its name, with the distribution that provides it and its version.
    """

    def __init__(self, stack: Stack, name: str, identity: str) -> None:
        self._stack = stack
        self._name = name
        self._identity = identity
        self.resumes = stack.resumes  # type: ignore[misc]

    @property
    def identity(self) -> str:
        return self._identity

    def refused(self, message: str) -> TaskFailed:
        """The failure of this trainer. message: why, in words that may leave this machine."""
        return TaskFailed(FailureKind.TRAINER, f"the trainer {self._name} of this agent cannot be used: {message}")

    def load(self, source: ModelSource) -> Any:
        with self._in_words("loading the base model"):
            model = self._stack.load(source)
        with self._in_words("looking at the base model that it loaded"):
            elsewhere = sorted(
                name for name, each in model.named_parameters() if each.device.type != source.device.type
            )
        if elsewhere:
            raise self.refused(f"it leaves {len(elsewhere)} tensors of the base elsewhere than on {source.device.type}")
        return model

    def attach(self, model: Any, lora: LoraSection, targets: Sequence[str]) -> Any:
        with self._in_words("attaching the adapter"):
            adapted = self._stack.attach(model, lora, targets)
        if not isinstance(adapted, PeftModel):
            raise self.refused(f"its attach returned {type(adapted).__name__} instead of a PEFT model")
        return adapted

    def detach(self, model: Any) -> None:
        with self._in_words("removing the adapter"):
            self._stack.detach(model)

    def train(self, training: Training) -> None:
        with self._in_words("training"):
            self._stack.train(training)

    def evaluate(self, model: Any, rows: TokenRows, scoring: Scoring) -> NDArray[np.float64]:
        with self._in_words("evaluating"):
            sums = np.asarray(self._stack.evaluate(model, rows, scoring), dtype=np.float64)
        if sums.shape != (len(rows),):
            raise self.refused(f"its evaluate returned numbers of the shape {list(sums.shape)}, not one for each row")
        return sums

    @contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        """Raise TaskFailed (trainer) for all that a block of the owner's code raises, but for exhausted memory."""
        try:
            yield
        except TaskFailed:
            raise
        except UnfitForTrainer as error:
            raise self.refused(str(error)) from error
        except (Exception, SystemExit) as error:  # its text may quote a row
            if memory.is_exhausted(error):
                raise
            log.exception("the trainer %s fails", self._name)
            raise self.refused(f"{what} ended in {type(error).__name__}; see the agent's log") from error
