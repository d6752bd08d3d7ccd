"""PostgreSQL's driver asked directly: a query is one exchange with the server.

SQLAlchemy's connections take three times the processor's time for a statement, and begin and end a transaction around
each query.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncConnection

from coordinator.database.address import Address
from coordinator.database.driver_errors import CONSTRAINT_CLASS, hide_details, postgres_error
from coordinator.database.postgres.connecting import connect_postgres
from coordinator.database.prepared import Prepared, Row
from coordinator.errors import DatabaseAway

_N_STATEMENTS = 500
"""Most statements that a connection keeps prepared; the coordinator has fewer."""
_CLOSE_S = 2.0
"""Seconds for connections to close politely."""


class PostgresDirect:
    """A connection of the driver, in a transaction or for single queries.

    Args:
        address: of the database, for messages.
        dialect: what statements are compiled for.
        connection: of asyncpg, which belongs to the caller.
    """

    def __init__(self, address: Address, dialect: Dialect, connection: Any) -> None:
        self._address = address
        self._dialect = dialect
        self._connection = connection

    async def rows(self, statement: Prepared, values: dict[str, Any]) -> Sequence[Row]:
        """The rows of a statement. Raises DatabaseAway and Unstorable, and otherwise SQLAlchemy's errors."""
        text = statement.text_for(self._dialect)
        parameters = text.parameters(values)
        with translated(self._address, self._connection, text.sql):
            found = await self._connection.fetch(text.sql, *parameters)
        return text.converted(found)

    async def run_each(self, statement: Prepared, values: Sequence[dict[str, Any]]) -> None:
        """Run a statement without rows once with each of the values. Raises as ``rows`` does."""
        text = statement.text_for(self._dialect)
        parameters = [text.parameters(each) for each in values]
        with translated(self._address, self._connection, text.sql):
            await self._connection.executemany(text.sql, parameters)


class PostgresDriver:
    """Connections for prepared statements, opened as they are needed.

    Args:
        address: of the database.
        dialect: what statements are compiled for.
        connections: most that are open. Some of them are for single queries alone: each request has one before it does
            anything, and transactions may wait for one another.
        wait_s: seconds to wait for a free one.
    """

    def __init__(self, address: Address, dialect: Dialect, connections: int, wait_s: float) -> None:
        self._address = address
        self._dialect = dialect
        self._connections = connections
        self._wait_s = wait_s
        self._free = asyncio.Semaphore(connections)
        self._transactions = asyncio.Semaphore(connections - max(1, connections // 4))
        self._opening = asyncio.Lock()
        self._pool: Any = None

    async def ask(self, query: Prepared, values: dict[str, Any]) -> Sequence[Row]:
        """The rows of a single query. Raises DatabaseAway and Unstorable."""
        async with self._connected() as connection:
            return await PostgresDirect(self._address, self._dialect, connection).rows(query, values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresDirect]:
        """One transaction: committed at the end of the block, rolled back if the block raises.

        Raises DatabaseAway, and SQLAlchemy's errors.
        """
        async with self._turn(self._transactions), self._connected() as connection:
            transaction = connection.transaction(isolation="read_committed")
            with translated(self._address, connection, "BEGIN"), _of_no_use_if_cancelled(connection):
                await transaction.start()
            try:
                yield PostgresDirect(self._address, self._dialect, connection)
            except BaseException:
                with suppress(Exception), _of_no_use_if_cancelled(connection):  # one that is lost has rolled back
                    await transaction.rollback()
                raise
            with translated(self._address, connection, "COMMIT"), _of_no_use_if_cancelled(connection):
                await transaction.commit()

    async def within(self, connection: AsyncConnection) -> "Session":
        """Runs statements in the transaction of a session's connection."""
        return Session(connection)

    @asynccontextmanager
    async def _turn(self, places: asyncio.Semaphore) -> AsyncIterator[None]:
        """Have a place while the block runs. Raises SQLAlchemy's TimeoutError if none becomes free in time."""
        try:
            async with asyncio.timeout(self._wait_s):
                await places.acquire()
        except TimeoutError as error:
            raise NoConnection from error
        try:
            yield
        finally:
            places.release()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        """A connection while the block runs. Raises DatabaseAway, and SQLAlchemy's TimeoutError if none is free."""
        pool = self._pool or await self._opened()
        async with self._turn(self._free):
            try:
                connection = await pool.acquire()  # at once, or as soon as one is made
            except Exception as error:
                if not _is_of_driver(error):
                    raise
                raise DatabaseAway(f"{self._address.shown}: the connection was lost") from error
            try:
                yield connection
            except DatabaseAway as away:
                if not away.only_writes:
                    await pool.expire_connections()  # what befell one has befallen all
                raise
            finally:
                with suppress(Exception):  # one that cannot be used again is closed
                    await pool.release(connection)

    async def _opened(self) -> Any:
        import asyncpg  # type: ignore[import-untyped]

        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    min_size=0,
                    max_size=self._connections,
                    connect=partial(connect_postgres, self._address, n_statements=_N_STATEMENTS),
                    reset=_nothing_to_reset,
                )
        return self._pool

    async def close(self) -> None:
        """Close the connections. What is asked meanwhile finds the database away."""
        if self._pool is not None:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._pool.close()
            except TimeoutError:  # then it has cut them
                pass
            finally:
                self._pool = None


class Session:
    """A session's connection, in its transaction, which SQLAlchemy begins at the first statement that it runs."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def rows(self, statement: Prepared, values: dict[str, Any]) -> Sequence[Row]:
        """The rows of a statement. Raises what a session's statements raise."""
        text = statement.text_for(self._connection.dialect)
        result = await self._connection.exec_driver_sql(text.sql, text.parameters(values))
        return text.converted(result.fetchall()) if result.returns_rows else ()

    async def run_each(self, statement: Prepared, values: Sequence[dict[str, Any]]) -> None:
        """Run a statement without rows once with each of the values."""
        text = statement.text_for(self._connection.dialect)
        await self._connection.exec_driver_sql(text.sql, [text.parameters(each) for each in values])


@contextmanager
def translated(address: Address, connection: Any, sql: str) -> Iterator[None]:
    """Raise what the driver raises in the block as a session's statements raise it, without values.

    Args:
        address: of the database, for messages.
        connection: of asyncpg.
        sql: the statement, for messages.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_driver(error):
            raise
        known = postgres_error(error, address, lost=_is_lost(connection))
        if known is not None:
            raise known from error
        hide_details(error)
        state = getattr(error, "sqlstate", None) or ""
        kind = IntegrityError if state.startswith(CONSTRAINT_CLASS) else DBAPIError
        raise kind(sql, None, error, hide_parameters=True) from error


@contextmanager
def _of_no_use_if_cancelled(connection: Any) -> Iterator[None]:
    """Give a connection up if the block is cancelled: it is in the middle of beginning or ending a transaction."""
    try:
        yield
    except asyncio.CancelledError:
        with suppress(Exception):  # the pool has taken it back
            connection.terminate()
        raise


def _is_of_driver(error: Exception) -> bool:
    from asyncpg import InterfaceError, PostgresError

    return isinstance(error, PostgresError | InterfaceError | OSError | TimeoutError)


def _is_lost(connection: Any) -> bool:
    """Whether a connection is closed. The pool takes one back that breaks; then it answers no question."""
    from asyncpg import InterfaceError

    try:
        return bool(connection.is_closed())
    except InterfaceError:
        return True


async def _nothing_to_reset(_connection: Any) -> None:
    """Keeps the pool from resetting what nobody has set: that would be another exchange with the server."""
