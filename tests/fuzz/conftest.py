"""Coordinators without limits of rates: generated requests come faster than callers may ask."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from coordinator.settings import LimitSettings, Settings
from tests.support.server import quick_settings


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    unlimited = LimitSettings(refused_per_minute=1_000_000, agent_requests_per_s=1_000_000)
    return partial(quick_settings, limits=unlimited)
