"""A clock that can be moved."""

from datetime import UTC, datetime, timedelta


class ManualClock:
    """Starts now, runs with real time, and can be moved ahead."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def not_before(self, at: datetime) -> None:
        self._offset += max(at - self.now(), timedelta(0))

    def move(self, seconds: float) -> None:
        """Jump."""
        self._offset += timedelta(seconds=seconds)
