"""Filters of listings as query parameters."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.text.times import in_utc


def time_filter(since: datetime | None, until: datetime | None) -> dict[str, Any]:
    """The parameters of a span of time. Raises ValueError for a time without a zone."""
    return {
        name: in_utc(time).isoformat() if time is not None else None
        for name, time in (("since", since), ("until", until))
    }


def label_filter(labels: Mapping[str, str] | None) -> list[str]:
    """The values of the parameter ``label``."""
    return [f"{name}={value}" for name, value in (labels or {}).items()]
