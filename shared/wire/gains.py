"""What owners gain by a campaign, as far as they tell it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from shared.bounds import Count
from shared.wire.base import Reply, Request

MAX_LOSS = 1e9
"""The largest loss that is told; one that is larger says nothing but that a model is useless."""

Loss = Annotated[float, Field(ge=-MAX_LOSS, le=MAX_LOSS)]
"""A held-out loss, in the unit of the campaign's kind."""


class GainRequest(Request):
    """Three held-out losses on the calling agent's own rows."""

    base: Loss
    """Of the bare base model."""
    alone: Loss
    """Of the model that this owner trained alone, for as many rounds and steps."""
    adapter: Loss
    """Of the adapter."""


class GainView(Reply):
    """What one owner gains by one adapter, by its own word."""

    round: Count
    """The adapter's number."""
    agent_name: str
    client_number: int | None
    base: float
    """Held-out loss of the bare base model on the owner's rows."""
    alone: float
    """That of the model that the owner trained alone, for as many rounds and steps."""
    adapter: float
    """That of the adapter."""
    at: datetime
    """When the owner last told it."""
