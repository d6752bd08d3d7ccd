"""SQLite's driver asked directly, in the event loop's thread: a prepared statement takes some microseconds.

A connection of the pool for it, and SQLAlchemy's results around its rows, would take twenty times as long.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from coordinator.database.address import Address
from coordinator.database.driver_errors import sqlite_error
from coordinator.database.prepared import Prepared, Row
from coordinator.database.sqlite.statements import PRAGMAS_OF_WRITERS, Connection
from coordinator.errors import DatabaseAway
from coordinator.process.threads import in_thread


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

    async def rows(self, statement: Prepared, values: dict[str, Any]) -> Sequence[Row]:
        """The rows of a statement, which must not wait: no large blob's bytes. Raises DatabaseAway and Unstorable."""
        text = statement.text_for(self._dialect)
        parameters = text.parameters(values)
        try:
            return text.converted(self._connection.execute(text.sql, parameters).fetchall())
        except sqlite3.Error as error:
            raise _translated(error, text.sql, self._address) from error

    async def run_each(self, statement: Prepared, values: Sequence[dict[str, Any]]) -> None:
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


class _OwnConnection:
    """A connection to a file, which exists: opened by its first use, and again by the next one after it was away.

    Args:
        address: of the database.
        dialect: what statements are compiled for.
        wait_s: seconds to wait for another process's lock.
    """

    PRAGMAS: tuple[str, ...] = ()

    def __init__(self, address: Address, dialect: Dialect, wait_s: float) -> None:
        self._address = address
        self._dialect = dialect
        self._wait_s = wait_s
        self._connection: sqlite3.Connection | None = None
        self._n_opened = 0

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The connection. What the driver raises in the block is raised as a session's statements raise it."""
        try:
            if self._connection is None:
                self._connection = connect(self._address, self._wait_s, self.PRAGMAS)
                self._n_opened += 1
            yield self._connection
        except sqlite3.Error as error:
            self._close_if_away(known := _translated(error, "", self._address))
            raise known from error
        except DatabaseAway as away:
            self._close_if_away(away)
            raise

    def _close_if_away(self, error: Exception) -> None:
        if isinstance(error, DatabaseAway) and not error.only_writes:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def connect(address: Address, wait_s: float, pragmas: Sequence[str]) -> sqlite3.Connection:
    """Open a file, which exists. Raises sqlite3.Error."""
    assert address.file is not None
    uri = f"{address.file.as_uri()}?mode=rw"  # it makes no file
    connection = sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
    return connection


class SqliteReader(_OwnConnection):
    """A connection for single prepared queries."""

    PRAGMAS = ("query_only=ON",)

    async def ask(self, query: Prepared, values: dict[str, Any]) -> Sequence[Row]:
        """The rows of a query. Raises DatabaseAway and Unstorable."""
        with self._opened() as connection:
            return await SqliteDirect(self._address, self._dialect, connection).rows(query, values)

    def version(self) -> tuple[int, int]:
        """What differs from before once another connection has committed. Raises DatabaseAway."""
        with self._opened() as connection:
            [version] = connection.execute("PRAGMA data_version").fetchone()
            return self._n_opened, version


class SqliteWriter(_OwnConnection):
    """A connection for transactions of prepared statements."""

    PRAGMAS = (*PRAGMAS_OF_WRITERS, "busy_timeout=0")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteDirect]:
        """One transaction: committed at the end of the block, rolled back if the block raises.

        One at a time: the caller sees to that. Raises DatabaseAway, and SQLAlchemy's errors.
        """
        with self._opened() as connection:
            try:
                await begin(connection, self._wait_s)
                yield SqliteDirect(self._address, self._dialect, connection)
                await in_thread(partial(connection.execute, "COMMIT"))
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.rollback()
                if connection.in_transaction:  # the next one opens another, and meets what is wrong with the file
                    self.close()
                raise


async def begin(connection: sqlite3.Connection, wait_s: float) -> None:
    """Begin a transaction that may write: at once, or in a thread if another process has the lock.

    The connection has no busy_timeout: with the lock, a transaction waits for nobody.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        await in_thread(partial(_begin_waiting, connection, wait_s))


def _begin_waiting(connection: sqlite3.Connection, wait_s: float) -> None:
    connection.execute(f"PRAGMA busy_timeout={round(1000 * wait_s)}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    finally:
        connection.execute("PRAGMA busy_timeout=0")


class SqliteDriver:
    """A connection for single queries, and one for transactions, beside those of sessions.

    Args:
        address: of the database.
        dialect: what statements are compiled for.
        lock_s: seconds that transactions wait for another process's lock.
        read_lock_s: seconds that queries do.
    """

    def __init__(self, address: Address, dialect: Dialect, *, lock_s: float, read_lock_s: float) -> None:
        self._address = address
        self._dialect = dialect
        self.reader = SqliteReader(address, dialect, read_lock_s)
        self.writer = SqliteWriter(address, dialect, lock_s)
        self.ask, self.version, self.transaction = self.reader.ask, self.reader.version, self.writer.transaction

    async def within(self, connection: AsyncConnection) -> SqliteDirect:
        """Runs statements in the transaction of a session's connection."""
        driver = (await connection.get_raw_connection()).driver_connection
        assert isinstance(driver, Connection)
        return SqliteDirect(self._address, self._dialect, driver.sqlite)

    async def close(self) -> None:
        """Close the connections."""
        self.reader.close()
        self.writer.close()
