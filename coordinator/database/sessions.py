"""Engine and sessions, with the same interface for SQLite and PostgreSQL.

A session of ``write`` is one transaction that its caller owns: it commits when the block ends, and rolls back if the
block raises.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy import CompoundSelect, Row, Select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from coordinator.database import engines
from coordinator.database.address import Address
from coordinator.database.availability import Availability
from coordinator.database.disk_full import translate_disk_full
from coordinator.database.engines import FREE_S, postgres_engine, sqlite_engine
from coordinator.database.postgres.direct import PostgresDriver
from coordinator.database.prepared import DRIVER, Driver, Prepared, Transaction
from coordinator.database.sqlite.direct import SqliteDriver
from coordinator.database.sqlite.file import OpenedFile
from coordinator.errors import DatabaseAway
from shared import crash_points

_BEFORE_COMMIT, _AFTER_COMMIT = "before_commit", "after_commit"

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


_CLEAR_S = 0.2
"""Seconds that SQLite waits for readers before it gives up clearing its log. Writers wait as long."""


class Database:
    """Creates sessions. connections: most connections that this process opens to PostgreSQL.

    Whatever a driver raises because the database is away is raised as DatabaseAway, and noted in ``availability``; a
    value that cannot be stored raises Unstorable. No error quotes a value.
    """

    def __init__(self, address: Address, connections: int = 30) -> None:
        self.address = address
        self.is_sqlite = address.file is not None
        self.availability = Availability()
        self._file = OpenedFile(address.file) if address.file is not None else None
        self._log_has_deleted = self.is_sqlite  # a process that died may have left some
        self._clearing = asyncio.Lock()
        self._driver: Driver
        if address.file is not None:
            self._writer = sqlite_engine(address, address.file, begin="BEGIN IMMEDIATE", pool_size=1)
            self._reader = sqlite_engine(address, address.file, begin="BEGIN", pool_size=8)
            self._single = sqlite_engine(address, address.file, begin=None, pool_size=2)
            waits = {"lock_s": engines.LOCK_S, "read_lock_s": engines.READ_LOCK_S}
            self._driver = SqliteDriver(address, self._single.dialect, **waits)
        else:
            of_sessions = max(2, connections // 3)
            self._writer = self._reader = postgres_engine(address, of_sessions)
            self._single = self._reader.execution_options(isolation_level="AUTOCOMMIT")
            of_driver = connections - of_sessions - 1  # another is the channel's
            self._driver = PostgresDriver(address, self._writer.dialect, of_driver, FREE_S)
        self._writes = asyncio.Lock()
        self._writing: dict[asyncio.Task[Any] | None, asyncio.Event] = {}
        info = {DRIVER: self._driver}
        self._write = async_sessionmaker(self._writer, expire_on_commit=False, info=info)
        self._read = async_sessionmaker(self._reader, expire_on_commit=False, info=info)
        self._read_once = async_sessionmaker(self._single, expire_on_commit=False)

    @property
    def engine(self) -> AsyncEngine:
        """The engine of write sessions."""
        return self._writer

    @asynccontextmanager
    async def write(self, name: str) -> AsyncIterator[AsyncSession]:
        """One transaction that may write. Callbacks given to ``before_commit`` are its last statements, those given to
        ``after_commit`` run once it is committed.

        name: names the crash points before and after the commit. Raises StorageFull, DatabaseAway and Unstorable.
        """
        with self._not_cancelled():
            with self._used(writes=True), translate_disk_full():
                async with self._turn(), self._write.begin() as session:
                    yield session
                    await _before_commit(name, session.info)
            crash_points.reach(f"{name}: committed")
        for callback in session.info.pop(_AFTER_COMMIT, []):
            callback()

    @asynccontextmanager
    async def transact(self, name: str) -> AsyncIterator[Transaction]:
        """As ``write``, a transaction of prepared statements alone: for what agents ask for all the time.

        It takes a quarter of the time of a session's.
        """
        with self._not_cancelled():
            with self._used(writes=True), translate_disk_full():
                async with self._turn(), self._driver.transaction() as statements:
                    transaction = Transaction(statements)
                    yield transaction
                    await _before_commit(name, transaction.info)
            crash_points.reach(f"{name}: committed")
        for callback in transaction.info.pop(_AFTER_COMMIT, []):
            callback()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """SQLite's writers of this process go one after the other; those of PostgreSQL at the same time."""
        if not self.is_sqlite:
            yield
            return
        try:
            async with asyncio.timeout(FREE_S):
                await self._writes.acquire()
        except TimeoutError as error:
            raise NoConnection from error
        try:
            yield
        finally:
            self._writes.release()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads, with one consistent view. Raises DatabaseAway."""
        with self._used():
            async with self._read() as session:
                yield session

    async def fetch(self, query: Select[*Ts] | CompoundSelect[*Ts], /, **values: Any) -> Sequence[Row[*Ts]]:
        """The rows of a single query. It needs no transaction, and takes a third of the time of one.

        values: of its bind parameters. Raises DatabaseAway.
        """
        with self._used():
            async with self._read_once() as session:
                return (await session.execute(query, values)).all()

    async def ask(self, query: Prepared, /, **values: Any) -> Sequence[tuple[Any, ...]]:
        """The rows of a single prepared query, as ``fetch`` gives them, but much faster.

        Raises DatabaseAway and Unstorable.
        """
        with self._used(looks=False):
            return await self._driver.ask(query, values)

    def version(self) -> object | None:
        """What differs from before once something was committed, by whatever process; None if only a query tells.

        Raises DatabaseAway.
        """
        if not isinstance(self._driver, SqliteDriver):
            return None
        with self._used(looks=False):
            return self._driver.version()

    @contextmanager
    def opened(self, *, looks: bool = True) -> Iterator[None]:
        """For work on ``engine`` itself: raises DatabaseAway as sessions do. looks: see ``_File.check``."""
        try:
            if self._file is not None:
                self._file.check(looks=looks)
            yield
        except NoConnection as error:
            raise DatabaseAway(f"{self.address.shown}: no connection was free in time") from error
        except (ConnectionError, TimeoutError) as error:
            if self.is_sqlite:  # an error of files, not of the database
                raise
            what = "it did not answer in time" if isinstance(error, TimeoutError) else "the connection was lost"
            raise DatabaseAway(f"{self.address.shown}: {what}") from error

    @contextmanager
    def _used(self, *, writes: bool = False, looks: bool = True) -> Iterator[None]:
        """Note whether the database answers the block."""
        try:
            with self.opened(looks=looks):
                yield
        except DatabaseAway as error:
            self.availability.failed(error)
            raise
        self.availability.answered(wrote=writes)

    def note_deleted(self) -> None:
        """Remember that blobs' bytes were deleted, once that is committed: SQLite's log still has them."""
        self._log_has_deleted = self.is_sqlite

    async def clear_log(self) -> bool:
        """Remove deleted bytes from SQLite's log: copy it into the file, zeros over deleted bytes included, and cut it.

        Does nothing unless something was deleted. Returns False if other connections were in the way; try again later.
        It waits for them _CLEAR_S at most, since writers wait for it meanwhile, and first for a call that is under way.
        Raises StorageFull and DatabaseAway.
        """
        async with self._clearing:
            if not self._log_has_deleted:
                return True
            self._log_has_deleted = False  # before: what is deleted from now on needs another pass
            is_clear = False
            try:
                with self._not_cancelled(), self._used(), translate_disk_full():
                    async with self._single.connect() as connection:
                        is_clear = await _checkpoint(connection)
            finally:
                self._log_has_deleted |= not is_clear
            return is_clear

    @contextmanager
    def _not_cancelled(self) -> Iterator[None]:
        """Have ``cancel`` wait until the block has ended."""
        task = asyncio.current_task()
        ended = self._writing[task] = asyncio.Event()
        try:
            yield
        finally:
            del self._writing[task]
            ended.set()

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
        await self._driver.close()


async def _before_commit(name: str, info: dict[str, Any]) -> None:
    crash_points.reach(f"{name}: before commit")
    for last in info.pop(_BEFORE_COMMIT, {}).values():
        await last()


def before_commit(session: AsyncSession | Transaction, key: str, callback: Callable[[], Awaitable[None]]) -> None:
    """Await *callback* as the last work of the session's transaction, so that a lock it takes is held for the commit
    alone. key: a second callback with it takes the place of the first."""
    session.info.setdefault(_BEFORE_COMMIT, {})[key] = callback


def after_commit(session: AsyncSession | Transaction, callback: Callable[[], None]) -> None:
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


async def _checkpoint(connection: AsyncConnection) -> bool:
    """Copy SQLite's log into the file and cut the log to zero bytes. Returns False if that was not possible now."""
    await connection.exec_driver_sql(f"PRAGMA busy_timeout={round(1000 * _CLEAR_S)}")
    try:
        # the first keeps no writer waiting and leaves little to the second, which does
        await connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        row = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).one()
        return bool(row[0] == 0)
    finally:
        await connection.exec_driver_sql(f"PRAGMA busy_timeout={round(1000 * engines.READ_LOCK_S)}")
