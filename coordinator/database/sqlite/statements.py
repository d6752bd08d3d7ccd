"""SQLite statements that run in the event loop's thread instead of the connection's thread.

aiosqlite switches to that thread four times per statement: to open a cursor, execute, fetch rows, and close the cursor.
Each switch costs about 100 µs in two threads, while the coordinator's usual statement takes 5 µs. So a statement is one
call in the event loop's thread. Only statements that may block go to the connection's thread: they wait for another
process's lock, for the disk to make a commit durable, or for megabytes of a blob.
"""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aiosqlite
from sqlalchemy.ext.asyncio import AsyncSession

from shared.system.private_files import create_private_file

PRAGMAS_OF_WRITERS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    # deleted content is overwritten with zeros: for a blob of 100 MB, 1/3 s under the lock. FAST would leave whole
    # pages of a client's update in the file until something else needs them
    "secure_delete=ON",
)
"""For each connection that writes."""
_FREED = ("PRAGMA secure_delete=FAST", "PRAGMA secure_delete=ON")
"""What is deleted between them is freed in whole pages: a blob of 100 MB in 35 ms."""
_AT_ONCE = 1000
_MAY_WAIT = re.compile(r"BEGIN IMMEDIATE|PRAGMA|CREATE|ALTER|DROP|\bblob_chunks\b")


@asynccontextmanager
async def not_overwritten(session: AsyncSession) -> AsyncIterator[None]:
    """Delete what is no secret in the block: its bytes stay in the file until something else needs the place. So may
    those of rows beside it, which move when pages are joined."""
    before, after = _FREED
    connection = await session.connection()
    await connection.exec_driver_sql(before)
    try:
        yield
    finally:
        if not connection.invalidated:  # as after a cancelled statement; the next one begins anew
            await connection.exec_driver_sql(after)


class Statement:
    """The part of aiosqlite's cursor that SQLAlchemy uses. ``execute`` also fetches the first rows, the rest come on
    demand."""

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
            await self._connection.run_in_thread(lambda _: self._fetch())
        rows, self._rows = self._rows, []
        return rows

    async def fetchmany(self, size: int) -> list[Any]:
        if not self._rows and self._cursor is not None:
            await self._connection.run_in_thread(lambda _: self._fetch())
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    async def close(self) -> None:
        if self._cursor is not None:
            await self._connection.run_in_thread(lambda _: self._end())

    async def _run(self, sql: str, work: Callable[[sqlite3.Connection], None]) -> None:
        if _MAY_WAIT.search(sql):
            await self._connection.run_in_thread(work)
        else:
            self._connection.run_here(work)

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
    """aiosqlite's connection, with ``Statement`` as cursor."""

    def cursor(self) -> Statement:  # type: ignore[override]
        return Statement(self)

    @property
    def sqlite(self) -> sqlite3.Connection:
        """The driver's connection, for statements in this thread while no other is under way."""
        return self._conn

    def run_here(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run *work* in this thread. The connection's thread is idle: a connection belongs to one task at a time."""
        work(self._conn)

    async def run_in_thread(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run *work* in the connection's thread."""
        await self._execute(lambda: work(self._conn))  # type: ignore[no-untyped-call]

    async def rollback(self) -> None:
        self._conn.rollback()


async def connect(path: Path) -> Connection:
    """Open a database. A new file is for its owner alone; SQLite gives its log files the same mode. Raises OSError."""
    with suppress(FileExistsError):
        create_private_file(path)
    connection = Connection(lambda: sqlite3.connect(path, check_same_thread=False), iter_chunk_size=64)
    connection._thread.daemon = True  # as SQLAlchemy does: an unclosed connection must not keep the process alive
    try:
        await connection
    except BaseException:
        # aiosqlite has told its thread to end and does not wait: the thread would report to a loop that is closed
        await asyncio.to_thread(connection._thread.join)
        raise
    return connection
