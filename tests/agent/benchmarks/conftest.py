"""Fixtures: an owner without network, and a running agent at a coordinator that hears its offers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.benchmarks.parts import HearingCoordinator
from tests.agent.owner import Owner
from tests.agent.scripted_coordinator import scripted_coordinator


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    """An owner who accepts every campaign, and every benchmark."""
    return Owner(tmp_path / "home")


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[HearingCoordinator]:
    with scripted_coordinator(tmp_path, HearingCoordinator) as served:
        yield served
