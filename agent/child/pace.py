"""How long the rest of a phase takes, by its recent pace."""

import time
from collections import deque
from collections.abc import Callable

from shared.bounds import TEN_YEARS_S
from shared.wire.tasks.leases import Phase, Progress

_RECENT_S = 60.0
_FEWEST = 8
"""Reports that a pace is taken from at least, however long ago the first of them came."""


class Pace:
    """Follows the phase that a task is in.

    The first report that something is done only starts the clock: what comes before it is not done again, such as the
    start of a trainer. now: the time, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._of: tuple[Phase, int] | None = None
        self._marks: deque[tuple[float, int]] = deque()
        self._begun = 0

    def seconds_left(self, progress: Progress) -> float | None:
        """Seconds until the phase has done all, or None if that is not known, or it has."""
        of = progress.phase, progress.total
        last = self._marks[-1][1] if self._marks else self._begun
        if of != self._of or progress.done < last:  # another phase, or the same one anew
            self._of, self._begun = of, progress.done
            self._marks.clear()
        elif progress.done > last:
            self._marks.append((self._now(), progress.done))
            self._forget()
        rest = progress.total - progress.done
        if len(self._marks) < 2 or rest <= 0:
            return None
        (began, first), (latest, done) = self._marks[0], self._marks[-1]
        left_s = rest * (latest - began) / (done - first) - (self._now() - latest)
        return min(max(left_s, 0.0), TEN_YEARS_S)

    def _forget(self) -> None:
        """Drop old marks, so that the pace is a recent one."""
        while len(self._marks) > _FEWEST and self._marks[1][0] < self._now() - _RECENT_S:
            self._marks.popleft()
