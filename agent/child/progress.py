"""The progress of a training: tracked over children that die, reported, and logged for the owner."""

import logging
import time
from collections.abc import Callable, Mapping

from agent.orders.protocol import ChildProgress, LocalProgress
from shared import crash_points
from shared.metrics import Metric
from shared.wire.tasks.leases import Phase, Progress

log = logging.getLogger(__name__)

_LOG_EVERY_S = 5.0


class ProgressTracker:
    """Tracks the steps of a training across children that die: each resumes from its predecessor's checkpoint."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report
        self._steps = 0
        self._steps_at_death = -1

    def report(self, progress: ChildProgress) -> None:
        """Forward the progress of a job. ``LocalProgress`` never belongs to one."""
        if isinstance(progress, LocalProgress):
            return
        if progress.phase is Phase.TRAINING:
            self._steps = max(self._steps, progress.done)
        self._report(progress)

    def has_advanced(self) -> bool:
        """Return whether the child that just died got further than the one before it."""
        advanced, self._steps_at_death = self._steps > self._steps_at_death, self._steps
        return advanced


def with_logging(report: Callable[[Progress], None], metrics: Mapping[str, Metric]) -> Callable[[Progress], None]:
    """Wrap *report* so that progress is also logged: each new phase, then every _LOG_EVERY_S seconds."""
    last_logged = 0.0
    last_phase: Phase | None = None

    def on_progress(progress: Progress) -> None:
        nonlocal last_logged, last_phase
        report(progress)
        crash_points.reach(f"agent: {progress.phase}")
        now = time.monotonic()
        if progress.phase is not last_phase or now - last_logged >= _LOG_EVERY_S:
            last_logged, last_phase = now, progress.phase
            count = f" {progress.done}/{progress.total}" if progress.total else ""
            loss = f", loss {progress.loss:.3f}" if progress.loss is not None else ""
            own = "".join(f", {metrics[name].title} {metrics[name].text(x)}" for name, x in progress.metrics.items())
            speed = f", {progress.tokens_per_s:.0f} tokens/s" if progress.tokens_per_s else ""
            log.info("  %s%s%s%s%s", progress.phase, count, loss, own, speed)

    return on_progress
