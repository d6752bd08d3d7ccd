"""Runs the parent's orders, and keeps the base model and the tokenised data in memory between them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from agent.child import (
    CHECKPOINT_FILE,
    RESULT_FILE,
    AnswerRequest,
    Checked,
    CheckRequest,
    LocalJob,
    Merged,
    MergeRequest,
    Scored,
    ScoreRequest,
)
from agent.settings import ComputeSettings
from agent.train import memory
from agent.train.jobs.context import WarmState
from agent.train.jobs.run import run_job
from agent.train.jobs.train import TRAINER_FOLDER_PREFIX
from agent.train.local import orders as local
from agent.train.progress import Reporter, Throttle
from shared import crash_points
from shared.durable import atomic_text
from shared.wire.jobs import Result


class Worker:
    """Runs one order at a time. ``warm``: what stays in memory between orders."""

    def __init__(self) -> None:
        transformers_logging.disable_progress_bar()
        self.warm = WarmState()

    @property
    def longest_row_tokens(self) -> int:
        """The tokens of the longest row of the current order; 0 if it has none yet."""
        return self.warm.longest_row_tokens

    def run(self, work: LocalJob, report: Reporter) -> Result:
        """Do the job and write its files into ``work.folder``, the result last.

        Raises TaskFailed, and any unexpected error.
        """
        self._begin(work.compute)
        work.folder.mkdir(parents=True, exist_ok=True)
        _delete_leftovers(work.folder)
        result = run_job(self.warm, work, Throttle(report))
        atomic_text(work.folder / RESULT_FILE, result.model_dump_json())
        crash_points.reach("child: result written")
        (work.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        return result

    def answer(self, order: AnswerRequest, report: Reporter, on_text: Callable[[str], None]) -> list[str]:
        """Answer the questions. *on_text* receives the answer to a single one piece by piece. Raises TaskFailed."""
        self._begin(order.compute)
        return local.answer(order, self.warm.finder, self.warm.models, Throttle(report), on_text)

    def score(self, order: ScoreRequest, report: Reporter) -> Scored:
        """Compute the log-probabilities of the completions. Raises TaskFailed."""
        self._begin(order.compute)
        return local.score(order, self.warm.finder, self.warm.models, Throttle(report))

    def check(self, order: CheckRequest, report: Reporter) -> Checked:
        """Check an owner's data. Raises TaskFailed."""
        self._begin(order.compute)
        return local.check(order, self.warm.finder, Throttle(report))

    def merge(self, order: MergeRequest, report: Reporter) -> Merged:
        """Write the merged model. Raises TaskFailed, and OSError if it cannot be written."""
        self._begin(order.compute)
        self.warm.models.release()  # memory is needed for two models: the merged one, and the one that is read back
        return local.merge(order, self.warm.finder, Throttle(report))

    def _begin(self, compute: ComputeSettings) -> None:
        self.warm.longest_row_tokens = 0
        memory.reset_peak()
        if compute.threads is not None:
            torch.set_num_threads(compute.threads)


def _delete_leftovers(folder: Path) -> None:
    """Delete what a killed process left unfinished in a task's folder."""
    for leftover in folder.glob(f"{TRAINER_FOLDER_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
