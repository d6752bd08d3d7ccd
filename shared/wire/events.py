"""Events of a campaign, numbered without gaps."""

from datetime import datetime
from typing import Any

from shared.wire.base import Reply


class EventView(Reply):
    """One event."""

    number: int
    """Counts from 1 within the campaign; also the SSE ``id``."""
    at: datetime
    type: str
    data: dict[str, Any]
