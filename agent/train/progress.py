"""Progress reports, limited in rate, with the memory and the GPU of the process."""

import threading
import time
from collections.abc import Callable

from agent.orders.protocol import ChildProgress, LocalPhase, LocalProgress
from agent.train.process import gpu, memory
from shared.wire.tasks.leases import Phase

Reporter = Callable[[ChildProgress], None]
"""Receives progress reports. Threads may call it at the same time."""

_INTERVAL_S = 0.3


class Throttle:
    """Forwards the first and the last report of each phase, and at most one every 0.3 seconds in between."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._lock = threading.Lock()  # downloads report from their own threads
        self._phase: Phase | LocalPhase | None = None
        self._next = 0.0

    def __call__(self, progress: ChildProgress) -> None:
        now = time.monotonic()
        with self._lock:
            is_last = 0 < progress.total <= progress.done
            if progress.phase == self._phase and now < self._next and not is_last:
                return
            self._phase, self._next = progress.phase, now + _INTERVAL_S
            self._report(_with_machine(progress))  # in its turn: another thread's may be further


def _with_machine(progress: ChildProgress) -> ChildProgress:
    """The progress with what the process has used of the machine so far."""
    if isinstance(progress, LocalProgress):
        return progress
    return progress.model_copy(
        update={
            "peak_memory_bytes": memory.peak_bytes() or None,
            "gpu_memory_bytes": gpu.memory_bytes(),
            "gpu_utilization": gpu.utilization(),
        }
    )
