"""What the owner's terminal says of a task that is under way."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping

from agent.child.pace import Pace
from shared.metrics import Metric
from shared.text.quantities import duration, size
from shared.wire.tasks.leases import BYTE_PHASES, Progress

log = logging.getLogger(__name__)

_LOG_EVERY_S = 5.0
_SILENCE_S = 14.0
"""Seconds without a line after which one says what the task still waits for."""
_LOOK_EVERY_S = 1.0
_START = "starting"


class ProgressLog:
    """Logs how far a task is: each new phase, a line every _LOG_EVERY_S seconds, and what a silence waits for.

    metrics: the kind's own ones by name, which tell how values are shown. now: the time, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.metrics: Mapping[str, Metric] = {}
        self._now = now
        self.begin()

    def begin(self) -> None:
        """Begin with another task."""
        self._pace = Pace(self._now)
        self._latest: Progress | None = None
        self._moved_at = self._logged_at = self._now()

    def show(self, progress: Progress) -> Progress:
        """Log the progress if it is time. Returns it with the time that is left."""
        timed = progress.model_copy(update={"seconds_left": self._pace.seconds_left(progress)})
        now, before = self._now(), self._latest
        self._latest = timed
        is_new = before is None or progress.phase is not before.phase
        if before is None or is_new or progress.done != before.done:
            self._moved_at = now
        if is_new or now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            log.info("  %s", ", ".join(self._parts(timed)))
        return timed

    async def watch(self) -> None:
        """Log what the task waits for whenever nothing else is logged, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.tell_silence()

    def tell_silence(self) -> None:
        """Log what the task waits for if nothing was logged for a while."""
        now = self._now()
        if now - self._logged_at >= _SILENCE_S:
            self._logged_at = now
            doing = _doing(self._latest) if self._latest is not None else _START
            log.info("  still %s, for %s", doing, duration(now - self._moved_at))

    def _parts(self, progress: Progress) -> Iterator[str]:
        yield _doing(progress)
        if progress.loss is not None:
            yield f"loss {progress.loss:.3f}"
        for name, value in progress.metrics.items():
            yield f"{self.metrics[name].title} {self.metrics[name].text(value)}"
        if progress.tokens_per_s:
            yield f"{progress.tokens_per_s:.0f} tokens/s"
        if progress.seconds_left is not None:
            yield f"{duration(progress.seconds_left)} left"
        if progress.peak_memory_bytes:
            of = f" of {size(progress.gpu_memory_bytes)}" if progress.gpu_memory_bytes else ""
            yield f"memory {size(progress.peak_memory_bytes)}{of}"
        if progress.gpu_utilization is not None:
            yield f"GPU {progress.gpu_utilization:.0%}"


def _doing(progress: Progress) -> str:
    """The phase, and how far it is if that is known."""
    if not progress.total:
        return progress.phase
    if progress.phase in BYTE_PHASES:
        return f"{progress.phase} {size(progress.done)} of {size(progress.total)}"
    return f"{progress.phase} {progress.done}/{progress.total}"
