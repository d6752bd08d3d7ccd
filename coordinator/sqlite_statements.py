"""SQLite statements that visit the connection's thread once.

aiosqlite visits it four times: for the cursor, the statement, its rows, and the cursor's end. The coordinator's
statements are small, so these visits are most of what they cost.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import aiosqlite

_AT_ONCE = 1000


class Statement:
    """What SQLAlchemy needs of aiosqlite's cursor. The first rows come with the statement; further ones are left where
    they are until they are asked for."""

    arraysize = 1

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = None
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Self:
        await self._connection.visit(lambda connection: self._begin(connection.execute(sql, parameters)))
        return self

    async def executemany(self, sql: str, parameters: Sequence[Sequence[Any]]) -> Self:
        await self._connection.visit(lambda connection: self._begin(connection.executemany(sql, parameters)))
        return self

    async def fetchall(self) -> list[Any]:
        while self._cursor is not None:
            await self._connection.visit(lambda _: self._fetch())
        rows, self._rows = self._rows, []
        return rows

    async def fetchmany(self, size: int) -> list[Any]:
        if not self._rows and self._cursor is not None:
            await self._connection.visit(lambda _: self._fetch())
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    async def close(self) -> None:
        if self._cursor is not None:
            await self._connection.visit(lambda _: self._end())

    def _begin(self, cursor: sqlite3.Cursor) -> None:
        self._cursor, self.description = cursor, cursor.description
        self.lastrowid = cursor.lastrowid
        self._fetch()

    def _fetch(self) -> None:
        assert self._cursor is not None
        rows = self._cursor.fetchmany(_AT_ONCE) if self.description else []
        self._rows += rows
        self.rowcount = self._cursor.rowcount
        if len(rows) < _AT_ONCE:
            self._end()

    def _end(self) -> None:
        assert self._cursor is not None
        self._cursor.close()
        self._cursor = None


class Connection(aiosqlite.Connection):
    """aiosqlite's connection, with such statements as cursors."""

    def cursor(self) -> Statement:  # type: ignore[override]
        return Statement(self)

    async def visit(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do some work in the connection's thread."""
        await self._execute(lambda: work(self._conn))  # type: ignore[no-untyped-call]


async def connect(path: Path) -> Connection:
    """Open a database."""
    connection = Connection(lambda: sqlite3.connect(path), iter_chunk_size=64)
    connection._thread.daemon = True  # as SQLAlchemy has it: a connection that was not closed keeps no process alive
    await connection
    return connection
