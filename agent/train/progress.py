"""Progress, not more of it than anybody reads."""

import threading
import time
from collections.abc import Callable

from agent.child import ChildProgress, LocalPhase
from shared.wire.leases import Phase

_INTERVAL_S = 0.3


class Throttle:
    """Passes on the first report of a phase, its last one, and in between one every 0.3 seconds."""

    def __init__(self, report: Callable[[ChildProgress], None]) -> None:
        self._report = report
        self._lock = threading.Lock()  # downloads report from their own threads
        self._phase: Phase | LocalPhase | None = None
        self._next = 0.0

    def __call__(self, progress: ChildProgress) -> None:
        now = time.monotonic()
        with self._lock:
            last = 0 < progress.total <= progress.done
            if progress.phase == self._phase and now < self._next and not last:
                return
            self._phase, self._next = progress.phase, now + _INTERVAL_S
        self._report(progress)
