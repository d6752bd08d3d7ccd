"""Engine and sessions, with the same interface for SQLite and PostgreSQL.

A session of ``write`` is one transaction that its caller owns: it commits when the block ends, and rolls back if the
block raises. SQLite's default transactions can lose updates (two readers may both proceed to write), so SQLite writers
begin with ``BEGIN IMMEDIATE``, and share one connection.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy import CompoundSelect, DateTime, Dialect, Row, Select, TypeDecorator, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from coordinator.database.disk_full import translate_disk_full
from coordinator.database.sqlite_statements import connect
from shared import crash_points

_AFTER_COMMIT = "after_commit"

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class UtcTime(TypeDecorator[datetime]):
    """A timezone-aware UTC time. SQLite stores no zone, so it is removed and restored there."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Database:
    """Creates sessions. connections: most connections that this process opens to PostgreSQL."""

    def __init__(self, url: str, connections: int = 30) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        if self.is_sqlite:
            self._writer = _sqlite_engine(url, begin="BEGIN IMMEDIATE", pool_size=1)
            self._reader = _sqlite_engine(url, begin="BEGIN", pool_size=8)
            self._single = _sqlite_engine(url, begin=None, pool_size=2)
        else:
            pool_size = min(10, connections)
            self._writer = self._reader = create_async_engine(
                url, pool_size=pool_size, max_overflow=connections - pool_size, pool_pre_ping=True
            )
            self._single = self._reader.execution_options(isolation_level="AUTOCOMMIT")
        self._writing: dict[asyncio.Task[Any] | None, asyncio.Event] = {}
        self._write = async_sessionmaker(self._writer, expire_on_commit=False)
        self._read = async_sessionmaker(self._reader, expire_on_commit=False)
        self._read_once = async_sessionmaker(self._single, expire_on_commit=False)

    @property
    def engine(self) -> AsyncEngine:
        """The engine of write sessions."""
        return self._writer

    @asynccontextmanager
    async def write(self, name: str) -> AsyncIterator[AsyncSession]:
        """One transaction that may write. Callbacks given to ``after_commit`` run once it is committed.

        name: names the crash points before and after the commit. Raises StorageFull.
        """
        task = asyncio.current_task()
        ended = self._writing[task] = asyncio.Event()
        try:
            with translate_disk_full():
                async with self._write.begin() as session:
                    yield session
                    crash_points.reach(f"{name}: before commit")
            crash_points.reach(f"{name}: committed")
        finally:
            del self._writing[task]
            ended.set()
        for callback in session.info.pop(_AFTER_COMMIT, []):
            callback()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads, with one consistent view."""
        async with self._read() as session:
            yield session

    async def fetch(self, query: Select[*Ts] | CompoundSelect[*Ts]) -> Sequence[Row[*Ts]]:
        """The rows of a single query. It needs no transaction, and takes a third of the time of one."""
        async with self._read_once() as session:
            return (await session.execute(query)).all()

    async def cancel(self, *tasks: asyncio.Task[Any]) -> None:
        """Cancel tasks, each between two of its transactions, and wait for their end.

        A statement cancelled half-way would keep SQLite's lock while anything references its cursor, which blocks all
        other writers.
        """
        for task in tasks:
            while (ended := self._writing.get(task)) is not None:
                await ended.wait()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        await self._writer.dispose()
        await self._reader.dispose()
        await self._single.dispose()


def after_commit(session: AsyncSession, callback: Callable[[], None]) -> None:
    """Call *callback* once the session's transaction is committed; never if it is rolled back."""
    session.info.setdefault(_AFTER_COMMIT, []).append(callback)


async def add_or_find(session: AsyncSession, row: R, same: Select[R]) -> R:
    """Add a row, or return the existing one that *same* selects. A unique constraint must prevent duplicates of it."""
    existing = (await session.scalars(same)).first()
    if existing is not None:
        return existing
    if session.get_bind().dialect.name == "sqlite":  # the write lock excludes other writers
        session.add(row)
        return row
    try:
        async with session.begin_nested():
            session.add(row)
    except IntegrityError:  # another transaction was faster
        return (await session.scalars(same)).one()
    return row


def _sqlite_engine(url: str, *, begin: str | None, pool_size: int) -> AsyncEngine:
    """begin: the statement that begins transactions; None for single statements, which need none."""
    path = Path(make_url(url).database or "")
    engine = create_async_engine(
        url,
        async_creator=partial(connect, path),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=120,
        **({"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True} if begin is None else {}),
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # turn off the driver's own BEGIN; see _on_begin
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        # Debian's SQLite overwrites deleted content with zeros: for a blob of 100 MB, 1/3 s under the lock.
        # With FAST, deleted bytes may stay on the disk until they are overwritten, as those of deleted files do.
        cursor.execute("PRAGMA secure_delete=FAST")
        cursor.close()

    if begin is not None:

        @event.listens_for(engine.sync_engine, "begin")
        def _on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine
