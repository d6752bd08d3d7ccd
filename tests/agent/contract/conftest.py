"""Fixtures of the tests of acceptance and contract."""

from pathlib import Path

import pytest

from tests.agent.owner import Owner


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    """An owner who accepts every campaign."""
    return Owner(tmp_path / "home")
