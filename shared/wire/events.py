"""What happened in a campaign, numbered without gaps."""

from datetime import datetime
from typing import Any

from shared.wire.base import Reply


class EventView(Reply):
    """One event. ``number`` counts from 1 inside the campaign and is the SSE ``id``."""

    number: int
    at: datetime
    type: str
    data: dict[str, Any]
