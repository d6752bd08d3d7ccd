"""A clock that can be moved."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class ManualClock:
    """A clock that starts now, runs with real time and can be moved ahead. on_move: called after each jump."""

    def __init__(self) -> None:
        self._offset = timedelta(0)
        self.on_move: Callable[[], object] | None = None

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def not_before(self, at: datetime) -> None:
        self._offset += max(at - self.now(), timedelta(0))

    def move(self, seconds: float) -> None:
        """Move the clock by *seconds*, then call on_move."""
        self._offset += timedelta(seconds=seconds)
        if self.on_move is not None:
            self.on_move()
