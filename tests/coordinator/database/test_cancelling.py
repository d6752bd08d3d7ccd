"""A statement that is cancelled: the task ends as cancelled, and the database does not count as away."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from coordinator.database.sessions import Database
from tests.coordinator.database.test_same_refusals import in_database
from tests.support.suite.tiers import POSTGRES


async def cancelled(database: Database) -> bool:
    """Whether a task that is cancelled within a statement ends as cancelled."""
    started = asyncio.Event()

    async def work() -> None:
        async with database.write("test") as session:
            started.set()
            await session.execute(text("SELECT pg_sleep(30)"))

    task = asyncio.create_task(work())
    await started.wait()
    await asyncio.sleep(0.2)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return task.cancelled()


@pytest.mark.parametrize("database_url", [POSTGRES], indirect=True)
def test_a_cancelled_statement_is_a_cancellation_and_no_absent_database(
    data_dir: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert in_database(data_dir, database_url, cancelled)
    assert "away" not in caplog.text
