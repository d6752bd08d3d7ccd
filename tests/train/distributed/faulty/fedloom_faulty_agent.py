"""The agent half: the bundled one, with a collator that does the harm."""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fedloom_faulty import Section

from agent.errors import TaskFailed
from agent.train.kinds import sft
from agent.train.trainer.loss import collate
from shared.wire.tasks.leases import FailureKind


class Training(sft.Training):
    def trainer(self, *args: Any, **kwargs: Any) -> Any:
        trainer = super().trainer(*args, **kwargs)
        trainer.data_collator = Harmful(self.section)
        return trainer


class Harmful:
    """Makes batches, and does the harm in one of them."""

    def __init__(self, section: Section) -> None:
        self._section = section
        self._made = 0

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Any:
        self._made += 1
        is_now = self._made == self._section.micro_batch
        if is_now and os.environ.get("RANK") == str(self._section.rank):
            self._harm(len(examples))
        return collate(examples)

    def _harm(self, n_rows: int) -> None:
        match self._section.fault:
            case "memory" if n_rows > 1:
                torch.empty(1 << 60, dtype=torch.uint8)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "error":
                raise ZeroDivisionError
            case "refusal":
                raise TaskFailed(FailureKind.DATA, "this row cannot be")
