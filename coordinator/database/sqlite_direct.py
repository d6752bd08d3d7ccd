"""SQLite's driver asked directly, in the event loop's thread: a prepared statement takes some microseconds.

A connection of the pool for it, and SQLAlchemy's results around its rows, would take twenty times as long.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from coordinator.database.address import Address
from coordinator.database.driver_errors import sqlite_error
from coordinator.database.prepared import Prepared, Row
from coordinator.database.sqlite_statements import Connection
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


def _translated(error: sqlite3.Error, sql: str, address: Address) -> Exception:
    """The domain's error, else SQLAlchemy's, as a session's statements raise it."""
    wrapped = DBAPIError.instance(sql, None, error, sqlite3.Error, hide_parameters=True)
    assert isinstance(wrapped, DBAPIError)
    return sqlite_error(error, address) or wrapped


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
                self._own = self._opened()
            return SqliteDirect(self._address, self._dialect, self._own).rows(query, values)
        except DatabaseAway as away:
            if not away.only_writes:
                self.close()
            raise

    def _opened(self) -> sqlite3.Connection:
        assert self._address.file is not None
        uri = f"{self._address.file.as_uri()}?mode=rw"  # it makes no file
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=self._busy_s, isolation_level=None)
            connection.execute("PRAGMA query_only=ON")
        except sqlite3.Error as error:
            raise _translated(error, uri, self._address) from error
        return connection

    def close(self) -> None:
        """Close the connection for single queries."""
        connection, self._own = self._own, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
