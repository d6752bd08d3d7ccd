"""A federation whose clients have state."""

from collections.abc import Callable, Iterator

import pytest

from tests.agent.federation import ROWS, Federation, federation_of
from tests.agent.parts import Home
from tests.support.operator import Operator
from tests.support.server import RunningCoordinator


@pytest.fixture
def federation(
    coordinator: RunningCoordinator,
    operator: Operator,
    new_home: Callable[[str], Home],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Federation]:
    with federation_of(coordinator, operator, new_home, monkeypatch, ROWS) as enrolled:
        yield enrolled
