"""SQLite statements: those that may block run in a thread, and no more rows are in memory than requested."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from coordinator.database.address import sqlite_address
from coordinator.database.sessions import Database
from coordinator.database.sqlite import statements as sqlite_statements

MANY = 2 * sqlite_statements._AT_ONCE + 7
TEN = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT i FROM n"


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each call that runs in the thread."""
    found: list[int] = []
    visit = sqlite_statements.Connection.run_in_thread

    async def counted(connection: sqlite_statements.Connection, work: Any) -> None:
        found.append(1)
        await visit(connection, work)

    monkeypatch.setattr(sqlite_statements.Connection, "run_in_thread", counted)
    return found


def in_database(folder: Path, work: Callable[[Database], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        database = Database(sqlite_address(folder / "test.db"))
        try:
            async with database.write("test") as session:
                await session.execute(text("CREATE TABLE n (i INTEGER PRIMARY KEY)"))
                await session.execute(text("INSERT INTO n VALUES (:i)"), [{"i": i} for i in range(MANY)])
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


def test_only_statements_that_may_block_run_in_the_thread(tmp_path: Path, visits: list[int]) -> None:
    async def work(database: Database) -> None:
        before = len(visits)
        async with database.write("test") as session:
            await session.execute(text("SELECT 1"))
            assert len(visits) == before + 1, "the lock, which another process may hold"
            assert (await session.scalars(text(TEN))).all() == list(range(1, 11))
            found = await session.execute(text("DELETE FROM n WHERE i < 3 RETURNING i"))
            assert found.scalars().all() == [0, 1, 2]
            gone = await session.execute(text("DELETE FROM n WHERE i < 5"))
            assert gone.rowcount == 2
            assert len(visits) == before + 1
            await session.execute(text("CREATE TABLE blob_chunks (data BLOB)"))
            await session.execute(text("INSERT INTO blob_chunks VALUES (:data)"), {"data": bytes(1 << 22)})
            assert len(visits) == before + 3, "megabytes"

    in_database(tmp_path, work)


def test_many_rows_come_whole_and_in_parts(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        async with database.read() as session:
            assert (await session.scalars(text("SELECT i FROM n ORDER BY i"))).all() == list(range(MANY))
            parts = await session.stream(text("SELECT i FROM n ORDER BY i"))
            sizes, values = [], []
            async for rows in parts.partitions(700):
                sizes.append(len(rows))
                values += [row.i for row in rows]
            assert values == list(range(MANY))
            assert max(sizes) <= 700
            begun = await session.stream(text("SELECT i FROM n ORDER BY i"))  # never read to its end
            assert (await begun.fetchone()).i == 0
            await begun.close()
        async with database.write("test") as session:
            await session.execute(text("DROP TABLE n"))

    in_database(tmp_path, work)


def test_statement_errors_are_raised_and_leave_the_connection_usable(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        with pytest.raises(IntegrityError):
            async with database.write("test") as session:
                await session.execute(text("INSERT INTO n VALUES (1)"))
        with pytest.raises(OperationalError, match="no such table"):
            async with database.write("test") as session:
                await session.execute(text("SELECT * FROM nowhere"))
        async with database.write("test") as session:
            assert await session.scalar(text("SELECT count(*) FROM n")) == MANY

    in_database(tmp_path, work)
