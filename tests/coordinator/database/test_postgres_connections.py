"""Connections to PostgreSQL: how many there are, what an error leaves of them, and what is said while none is free."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import func, literal_column, select, text

from coordinator.database import availability
from coordinator.database.address import postgres_address
from coordinator.database.postgres.direct import PostgresDriver
from coordinator.database.prepared import Prepared, given
from coordinator.database.sessions import Database
from coordinator.errors import DatabaseAway

pytestmark = pytest.mark.deep

CONNECTIONS = 5
OF_DRIVER = 2
ONE = Prepared(select(literal_column("1")))
SLEEP = Prepared(select(func.pg_sleep(given("seconds"))))
ALL = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
Work = Callable[[Database], Awaitable[Any]]


@pytest.fixture
def run(new_postgres: Callable[[], str]) -> Callable[[Work], Any]:
    """Run work with a database of few connections."""

    address = postgres_address(new_postgres())

    async def closing(work: Work) -> Any:
        database = Database(address, CONNECTIONS)
        try:
            async with asyncio.timeout(30):
                return await work(database)
        finally:
            await database.close()

    return lambda work: asyncio.run(closing(work))


async def scalar(database: Database, sql: str) -> Any:
    async with database.read() as session:
        return (await session.execute(text(sql))).scalar()


async def works(database: Database) -> bool:
    """Whether each way to the database works, on as many connections as there are."""
    asked = await asyncio.gather(*(database.ask(ONE) for _ in range(10)))
    async with database.transact("test") as transaction:
        [(first,)] = await ONE.rows(transaction)
    async with database.write("test") as session:
        [(second,)] = await ONE.rows(session)
    return {first, second, *(one for [(one,)] in asked)} == {1}


def test_no_more_are_opened_than_the_setting_allows(run: Callable[[Work], Any]) -> None:
    async def work(database: Database) -> tuple[int, list[Any]]:
        async def slow_session() -> None:
            async with database.read() as session:
                await SLEEP.rows(session, seconds=0.05)

        asked = [database.ask(SLEEP, seconds=0.05) for _ in range(20)]
        count = asyncio.gather(scalar(database, ALL), *(slow_session() for _ in range(10)), *asked)
        return (await scalar(database, ALL)), (await count)[:1]

    at_the_end, [meanwhile] = run(work)
    assert OF_DRIVER < at_the_end <= CONNECTIONS - 1  # another is the channel's
    assert meanwhile <= CONNECTIONS - 1


def test_those_that_the_server_closed_are_opened_again(run: Callable[[Work], Any]) -> None:
    async def work(database: Database) -> bool:
        assert await works(database)
        await scalar(database, END_OTHERS)
        await asyncio.sleep(0.3)  # the news arrive
        return await works(database)

    assert run(work)


def test_one_that_breaks_in_a_statement_is_an_absent_database_and_the_next_works(run: Callable[[Work], Any]) -> None:
    async def work(database: Database) -> bool:
        async def in_transaction() -> None:
            async with database.transact("test") as transaction:
                await SLEEP.rows(transaction, seconds=20)

        asking = [asyncio.create_task(database.ask(SLEEP, seconds=20)), asyncio.create_task(in_transaction())]
        await asyncio.sleep(0.3)
        await scalar(database, END_OTHERS)
        for each in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(each, DatabaseAway), each
            assert "postgresql://" in str(each)
        return await works(database)

    assert run(work)


def test_a_cancelled_statement_gives_its_connection_back(run: Callable[[Work], Any]) -> None:
    async def work(database: Database) -> bool:
        for number in range(3 * OF_DRIVER):
            asking = asyncio.create_task(database.ask(SLEEP, seconds=20))
            await asyncio.sleep(0.02 * number)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        return await works(database)

    assert run(work)


def test_none_that_is_free_in_time_is_an_absent_database(run: Callable[[Work], Any]) -> None:
    async def work(database: Database) -> bool:
        assert isinstance(database._driver, PostgresDriver)
        database._driver._wait_s = 0.2
        asking = [asyncio.create_task(database.ask(SLEEP, seconds=1)) for _ in range(OF_DRIVER)]
        await asyncio.sleep(0.1)
        with pytest.raises(DatabaseAway, match="no connection was free in time"):
            await database.ask(ONE)
        await asyncio.gather(*asking)
        return await works(database)

    assert run(work)


def test_a_driver_that_was_closed_opens_again(run: Callable[[Work], Any]) -> None:
    async def work(database: Database) -> bool:
        assert await works(database)
        await database.close()
        return await works(database)

    assert run(work)


def test_what_asks_nothing_does_not_tell_that_the_database_answers(
    run: Callable[[Work], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(availability, "CALM_S", 0.0)

    async def work(database: Database) -> None:
        assert await works(database)
        database.availability.failed(DatabaseAway("gone"))
        assert database.version() is None
        assert "the database is back" not in caplog.text
        assert await works(database)

    run(work)
    assert "the database is back" in caplog.text
