"""SQLite statements that are run where they are asked for, without a visit to the connection's thread.

aiosqlite visits that thread four times for a statement: for the cursor, the statement, its rows, and the cursor's end.
Each visit costs a hundred microseconds of two threads, the coordinator's usual statement five. So a statement is one
call, in the event loop's own thread. What may wait goes to the connection's thread: for another process's lock, for the
disk's word that a commit is safe, for megabytes of a blob.
"""

import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import aiosqlite

_AT_ONCE = 1000
_MAY_WAIT = re.compile(r"BEGIN IMMEDIATE|PRAGMA|CREATE|ALTER|DROP|\bblob_chunks\b")


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
        await self._run(sql, lambda connection: self._begin(connection.execute(sql, parameters)))
        return self

    async def executemany(self, sql: str, parameters: Sequence[Sequence[Any]]) -> Self:
        await self._run(sql, lambda connection: self._begin(connection.executemany(sql, parameters)))
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

    async def _run(self, sql: str, work: Callable[[sqlite3.Connection], None]) -> None:
        if _MAY_WAIT.search(sql):
            await self._connection.visit(work)
        else:
            self._connection.do(work)

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

    def do(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do some work here. The connection's thread is idle: a connection belongs to one task at a time."""
        work(self._conn)

    async def visit(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do some work in the connection's thread."""
        await self._execute(lambda: work(self._conn))  # type: ignore[no-untyped-call]

    async def rollback(self) -> None:
        self._conn.rollback()


async def connect(path: Path) -> Connection:
    """Open a database."""
    connection = Connection(lambda: sqlite3.connect(path, check_same_thread=False), iter_chunk_size=64)
    connection._thread.daemon = True  # as SQLAlchemy has it: a connection that was not closed keeps no process alive
    await connection
    return connection
