"""How many rows go through the model at once in a job: fewer each time memory runs out."""

import logging

from agent.configuration.settings import AgentSettings
from agent.errors import TaskFailed
from agent.orders.jobs import InitJob, Job, TrainJob
from agent.orders.protocol import OutOfMemory
from agent.workspace import Workspace
from shared.wire.tasks.leases import FailureKind

log = logging.getLogger(__name__)


class RowsAtOnce:
    """What a job's order says of memory.

    Attributes:
        micro_batch: the most rows at once.
        recompute: whether layers keep only their inputs for the backward pass.
    """

    def __init__(self, workspace: Workspace, settings: AgentSettings, job: Job) -> None:
        self._workspace, self._settings, self._job = workspace, settings, job
        self._max_length = 0 if isinstance(job, InitJob) else job.training.max_length
        most = settings.compute.micro_batch
        self.micro_batch = workspace.micro_batch(job.model_key, self._max_length, most)
        self.recompute = False

    @property
    def of_killed_child(self) -> OutOfMemory:
        """What a child would have said that was killed before it could."""
        may_recompute = isinstance(self._job, TrainJob) and not self.recompute
        return OutOfMemory(peak_bytes=0, longest_row_tokens=0, recomputed=not may_recompute)

    def shrink(self, answer: OutOfMemory) -> None:
        """Halve the micro-batch, and remember it for later tasks; of one row, have layers compute again.

        Raises TaskFailed (out-of-memory) if neither is left.
        """
        at_once = answer.micro_batch or self.micro_batch
        if at_once > 1:
            self.micro_batch = at_once // 2
            self._workspace.remember_micro_batch(self._job.model_key, self._max_length, self.micro_batch)
            log.warning("out of memory with a micro-batch of %d; trying %d", at_once, self.micro_batch)
        elif not (self.recompute or answer.recomputed):
            self.recompute = True
            log.warning("out of memory with one row at a time; computing layers again in the backward pass")
        else:
            raise self._failed(answer)

    def _failed(self, answer: OutOfMemory) -> TaskFailed:
        peak = f"at a peak of {answer.peak_bytes / 2**30:.1f} GiB " if answer.peak_bytes else ""
        row = f"; the longest row has {answer.longest_row_tokens} tokens" if answer.longest_row_tokens else ""
        if self._settings.policy.report != "live":  # they tell the length of a row
            if peak or row:
                log.warning("out of memory %swith one row at a time%s", peak, row)
            peak = row = ""
        message = f"out of memory {peak}with one row at a time{row}; lower max_length, or use a smaller base model"
        return TaskFailed(FailureKind.OUT_OF_MEMORY, message)
