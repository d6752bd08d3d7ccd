"""SQLite's driver asked directly, in the event loop's thread: a prepared statement takes some microseconds.

A connection of the pool for it, and SQLAlchemy's results around its rows, would take twenty times as long.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from coordinator.database.address import Address
from coordinator.database.driver_errors import sqlite_error
from coordinator.database.prepared import Prepared, Row
from coordinator.database.sqlite_statements import PRAGMAS_OF_WRITERS, Connection
from coordinator.errors import DatabaseAway


class SqliteDirect:
    """A connection to SQLite.

    Args:
        address: of the database, for messages.
        dialect: what statements are compiled for.
        connection: of the driver, which belongs to the caller.
    """

    def __init__(self, address: Address, dialect: Dialect, connection: sqlite3.Connection) -> None:
        self._address = address
        self._dialect = dialect
        self._connection = connection

    def rows(self, statement: Prepared, values: dict[str, Any]) -> Sequence[Row]:
        """The rows of a statement, which must not wait: no blob's bytes. Raises DatabaseAway and Unstorable."""
        text = statement.text_for(self._dialect)
        parameters = text.parameters(values)
        try:
            return text.converted(self._connection.execute(text.sql, parameters).fetchall())
        except sqlite3.Error as error:
            raise _translated(error, text.sql, self._address) from error

    def run_each(self, statement: Prepared, values: Sequence[dict[str, Any]]) -> None:
        """Run a statement without rows once with each of the values. Raises DatabaseAway and Unstorable."""
        text = statement.text_for(self._dialect)
        parameters = [text.parameters(each) for each in values]
        try:
            self._connection.executemany(text.sql, parameters)
        except sqlite3.Error as error:
            raise _translated(error, text.sql, self._address) from error


def _translated(error: sqlite3.Error, sql: str, address: Address) -> Exception:
    """The domain's error, else SQLAlchemy's, as a session's statements raise it."""
    wrapped = DBAPIError.instance(sql, None, error, sqlite3.Error, hide_parameters=True)
    assert isinstance(wrapped, DBAPIError)
    return sqlite_error(error, address) or wrapped


class SqliteWriter:
    """A connection for transactions of prepared statements, opened by the first one.

    Args:
        address: of a database in a file, which exists.
        dialect: what statements are compiled for.
        lock_s: seconds to wait for another process's lock.
    """

    def __init__(self, address: Address, dialect: Dialect, lock_s: float) -> None:
        self._address = address
        self._dialect = dialect
        self._lock_s = lock_s
        self._own: sqlite3.Connection | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteDirect]:
        """One transaction: committed at the end of the block, rolled back if the block raises.

        One at a time: the caller sees to that. Raises DatabaseAway, and SQLAlchemy's errors.
        """
        connection = self._own = self._own or opened(self._address, self._lock_s, PRAGMAS_OF_WRITERS)
        try:
            await _begin(connection, self._address, self._lock_s)
            yield SqliteDirect(self._address, self._dialect, connection)
            await _in_thread(partial(_run, connection, "COMMIT", self._address))
        except BaseException:
            try:
                connection.rollback()
            except sqlite3.Error:  # the next transaction opens another, and meets what is wrong with the file
                self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        connection, self._own = self._own, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def opened(address: Address, busy_s: float, pragmas: Sequence[str]) -> sqlite3.Connection:
    """A connection to a file, which exists. Raises DatabaseAway, and SQLAlchemy's errors."""
    assert address.file is not None
    uri = f"{address.file.as_uri()}?mode=rw"  # it makes no file
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error as error:
        raise _translated(error, uri, address) from error
    return connection


def _run(connection: sqlite3.Connection, sql: str, address: Address) -> None:
    try:
        connection.execute(sql)
    except sqlite3.Error as error:
        raise _translated(error, sql, address) from error


async def _begin(connection: sqlite3.Connection, address: Address, lock_s: float) -> None:
    """Begin a transaction that may write: at once, or in a thread if another process has the lock."""
    connection.execute("PRAGMA busy_timeout=0")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise _translated(error, "BEGIN IMMEDIATE", address) from error
    connection.execute(f"PRAGMA busy_timeout={round(1000 * lock_s)}")
    if not connection.in_transaction:
        await _in_thread(partial(_run, connection, "BEGIN IMMEDIATE", address))


async def _in_thread(work: Callable[[], None]) -> None:
    """Do work in a thread, to its end: a caller that is cancelled waits for it, since it uses the connection."""
    doing = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


class SqliteDirects:
    """Makes them of the connections of sessions, and has one of its own for single queries.

    That one is opened by its first query, and again by the next one after the database was away.

    Args:
        address: of a database in a file, which exists by the first query.
        dialect: what statements are compiled for.
        busy_s: seconds that single queries wait for another process's lock.
    """

    def __init__(self, address: Address, dialect: Dialect, busy_s: float) -> None:
        self._address = address
        self._dialect = dialect
        self._busy_s = busy_s
        self._own: sqlite3.Connection | None = None

    async def of(self, connection: AsyncConnection) -> SqliteDirect:
        """That of a session's connection, in its transaction."""
        driver = (await connection.get_raw_connection()).driver_connection
        assert isinstance(driver, Connection)
        return SqliteDirect(self._address, self._dialect, driver.sqlite)

    def ask(self, query: Prepared, values: dict[str, Any]) -> Sequence[Row]:
        """The rows of a single query. Raises DatabaseAway and Unstorable."""
        try:
            if self._own is None:
                self._own = opened(self._address, self._busy_s, ["query_only=ON"])
            return SqliteDirect(self._address, self._dialect, self._own).rows(query, values)
        except DatabaseAway as away:
            if not away.only_writes:
                self.close()
            raise

    def close(self) -> None:
        """Close the connection for single queries."""
        connection, self._own = self._own, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
