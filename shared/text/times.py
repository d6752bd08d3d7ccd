"""Times that people write: ISO 8601 with a zone."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator


def read_time(text: str) -> datetime:
    """Parse a time such as ``2026-01-31T12:00:00Z``. Returns it in UTC. Raises ValueError, which says what to write."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        message = "not a valid time; write one as 2026-01-31T12:00:00Z (ISO 8601 with a zone)"
        raise ValueError(message) from error
    return in_utc(time)


def in_utc(time: datetime) -> datetime:
    """The same time in UTC. Raises ValueError if it has no zone."""
    if time.tzinfo is None:
        message = "the time has no zone; write one, as in 2026-01-31T12:00:00Z or 2026-01-31T12:00:00+01:00"
        raise ValueError(message)
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        message = "the time is out of range"
        raise ValueError(message) from error


def _read(value: Any) -> Any:
    return read_time(value) if isinstance(value, str) else value


Time = Annotated[datetime, BeforeValidator(_read)]
"""A time with a zone, in UTC."""
