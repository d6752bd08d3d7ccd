"""Events: numbered without gaps in a campaign, and over all campaigns."""

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


class FeedEventView(EventView):
    """One event of any campaign."""

    position: int
    """Counts from 1 over all campaigns, in the order in which events became visible; also the SSE ``id``."""
    campaign_id: str
    campaign_name: str
