"""Fixtures of the tests of the policy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent.owner import Owner


@pytest.fixture
def owner_with(tmp_path: Path) -> Callable[..., Owner]:
    """Makes an owner whose policy is open but for some keys."""

    def make(**policy: Any) -> Owner:
        return Owner(tmp_path / "home", **policy)

    return make
