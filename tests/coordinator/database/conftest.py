"""Work in transactions, on each database."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from tests.support.server import RunningCoordinator

Work = Callable[[AsyncSession], Any]


@pytest.fixture
def run(either_coordinator: RunningCoordinator) -> Callable[[Work], Any]:
    """Run work in a transaction."""

    def run(work: Work) -> Any:
        async def transaction() -> Any:
            async with either_coordinator.services.database.write("test") as session:
                return await work(session)

        return either_coordinator.run(transaction())

    return run
