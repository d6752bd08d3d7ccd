"""The steps of a training, tracked over children that die."""

from collections.abc import Callable

from agent.orders.protocol import ChildProgress, LocalProgress
from shared import crash_points
from shared.wire.tasks.leases import Phase, Progress


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
        crash_points.reach(f"agent: {progress.phase}")

    def has_advanced(self) -> bool:
        """Return whether the child that just died got further than the one before it."""
        advanced, self._steps_at_death = self._steps > self._steps_at_death, self._steps
        return advanced
