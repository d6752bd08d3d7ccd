"""Transactions of prepared statements: all or nothing, in turn with those of sessions, and what they raise."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from coordinator.database.address import sqlite_address
from coordinator.database.prepared import Prepared, Transaction, given
from coordinator.database.sessions import Database, after_commit, before_commit
from coordinator.database.sqlite.direct import SqliteDriver
from coordinator.database.tables import EventCountRow
from coordinator.errors import DatabaseAway
from tests.support.server import RunningCoordinator

ADD = Prepared(insert(EventCountRow).values(id=given("id"), n_events=given("n")))
COUNT = Prepared(select(EventCountRow.n_events).where(EventCountRow.id == given("id")))
LOCK = Prepared(select(EventCountRow.n_events).where(EventCountRow.id == given("id")).with_for_update())
SET = Prepared(update(EventCountRow).where(EventCountRow.id == given("id")).values(n_events=given("n")))
ID = 7
Work = Callable[[Database], Coroutine[Any, Any, Any]]


@pytest.fixture
def run(either_coordinator: RunningCoordinator) -> Callable[[Work], Any]:
    """Run work with a database, which has a count of 0."""

    async def begin(database: Database) -> None:
        async with database.transact("test") as transaction:
            await ADD.rows(transaction, id=ID, n=0)

    either_coordinator.run(begin(either_coordinator.services.database))
    return lambda work: either_coordinator.run(work(either_coordinator.services.database))


async def count(database: Database) -> int:
    [(n,)] = await database.ask(COUNT, id=ID)
    assert isinstance(n, int)
    return n


async def raised(within: Any, by: int) -> None:
    """Add to the count, between a read and a write of it."""
    [(n,)] = await LOCK.rows(within, id=ID)
    await asyncio.sleep(0)
    await SET.rows(within, id=ID, n=n + by)


def test_it_is_committed_with_its_last_statements_and_tells_after_that(run: Callable[[Work], Any]) -> None:
    seen: list[tuple[str, int]] = []

    async def work(database: Database) -> None:
        async def last(transaction: Transaction) -> None:
            await raised(transaction, 10)
            seen.append(("last", await count(database)))

        async with database.transact("test") as transaction:
            before_commit(transaction, "last", lambda: last(transaction))
            after_commit(transaction, lambda: seen.append(("after", -1)))
            await raised(transaction, 1)
        seen.append(("end", await count(database)))

    run(work)
    assert seen == [("last", 0), ("after", -1), ("end", 11)]


def test_what_raises_leaves_nothing_and_tells_nobody(run: Callable[[Work], Any]) -> None:
    told: list[int] = []

    async def work(database: Database) -> int:
        async def fail(error: type[BaseException] | None) -> None:
            async with database.transact("test") as transaction:
                after_commit(transaction, lambda: told.append(1))
                await raised(transaction, 1)
                if error is not None:
                    raise error
                await ADD.rows(transaction, id=ID, n=3)

        for error in (ZeroDivisionError, asyncio.CancelledError):
            with pytest.raises(error):
                await fail(error)
        with pytest.raises(IntegrityError):
            await fail(None)
        async with database.transact("test") as transaction:  # the connection is of use again
            await raised(transaction, 100)
        return await count(database)

    assert run(work) == 100
    assert told == []


def test_none_is_lost_among_transactions_of_both_kinds(run: Callable[[Work], Any]) -> None:
    async def work(database: Database) -> int:
        @asynccontextmanager
        async def either(number: int) -> AsyncIterator[Any]:
            async with database.write("test") if number % 2 else database.transact("test") as within:
                yield within

        async def add(number: int) -> None:
            async with either(number) as within:
                await raised(within, 1)

        await asyncio.gather(*(add(number) for number in range(40)))
        return await count(database)

    assert run(work) == 40


def test_a_cancelled_commit_is_there_or_not_and_the_next_one_goes_on(run: Callable[[Work], Any]) -> None:
    async def work(database: Database) -> int:
        async def add() -> None:
            async with database.transact("test") as transaction:
                await raised(transaction, 1)

        for turns in range(12):
            task = asyncio.create_task(add())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        before = await count(database)
        await add()
        assert 0 <= before <= 12
        return await count(database) - before

    assert run(work) == 1


def test_a_lock_of_another_process_is_waited_for_without_holding_others_up(
    coordinator: RunningCoordinator, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = coordinator.services.database
    assert isinstance(database._driver, SqliteDriver)
    monkeypatch.setattr(database._driver.writer, "_wait_s", 0.3)
    other = sqlite3.connect(data_dir / "fedloom.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def add(number: int) -> None:
        async with database.transact("test") as transaction:
            await ADD.rows(transaction, id=number, n=0)

    async def answered_meanwhile() -> tuple[bool, str]:
        adding = asyncio.create_task(add(1))
        for _ in range(10):
            await database.ask(COUNT, id=1)
            await asyncio.sleep(0.01)
        is_waiting = not adding.done()
        try:
            await adding
        except DatabaseAway as away:
            return is_waiting, str(away)
        return is_waiting, ""

    is_waiting, said = coordinator.run(answered_meanwhile())
    other.execute("ROLLBACK")
    assert is_waiting
    assert "another process has locked it for too long" in said
    coordinator.run(add(2))
    assert other.execute("SELECT id FROM event_counts WHERE id < 3").fetchall() in ([(2,)], [(1,), (2,)])
    other.close()


@pytest.mark.parametrize("name", ["q?mode=memory", "h#ash", "p%41ct", "a b&c=d", "夜"])
@pytest.mark.filterwarnings("error")
def test_a_folder_of_any_name_has_one_file_for_all_connections(
    tmp_path: Path, sqlite_template: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(sqlite_template, folder / "fedloom.db")

    async def work() -> int:
        database = Database(sqlite_address(folder / "fedloom.db"))
        async with database.transact("test") as transaction:
            await ADD.rows(transaction, id=ID, n=1)
        async with database.write("test") as session:
            await raised(session, 1)
        found = await count(database)
        await database.close()
        return found

    assert asyncio.run(work()) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("limit", ["size of files", "pages"])
def test_a_disk_that_fails_or_is_full_loses_one_transaction_and_the_next_goes_on(
    tmp_path: Path, sqlite_template: Path, limit: str
) -> None:
    file = tmp_path / "fedloom.db"
    shutil.copy(sqlite_template, file)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, file, limit], capture_output=True, text=True, timeout=120, check=True
    )
    said = {"size of files": f"DatabaseAway {file}: its disk reports an error", "pages": "StorageFull"}
    refused = [line.startswith(said[limit]) for line in done.stdout.splitlines()[:2]]
    assert refused == [True, True], done.stdout + done.stderr
    assert done.stdout.splitlines()[2:] == ["1 and 1 rows"]


SCRIPT = """
import asyncio, resource, signal, sys
from pathlib import Path
from sqlalchemy import func, insert, select
from coordinator.database.address import sqlite_address
from coordinator.database.prepared import Prepared, given
from coordinator.database.sessions import Database
from coordinator.database.tables import EventCountRow

ADD = Prepared(insert(EventCountRow).values(id=given("id"), n_events=0))
COUNT = Prepared(select(func.count()).select_from(EventCountRow))

async def put(database, numbers):
    async with database.transact("test") as transaction:
        await ADD.run_each(transaction, [{"id": number} for number in numbers])

async def main():
    file = Path(sys.argv[1])
    database = Database(sqlite_address(file))
    await put(database, [1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    own = database._driver.writer._connection
    [(pages,)] = own.execute("PRAGMA page_count")
    for begin in (10_000, 50_000):
        if sys.argv[2] == "pages":
            own.execute(f"PRAGMA max_page_count={pages + 1}")
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))  # as a disk that fails: EFBIG
        try:
            await put(database, range(begin, begin + 30_000))
        except Exception as error:
            print(type(error).__name__, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    own.execute("PRAGMA max_page_count=100000") if sys.argv[2] == "pages" else None
    [(before,)] = await database.ask(COUNT)
    await put(database, [2])
    [(after,)] = await database.ask(COUNT)
    print(before, "and", after - before, "rows")
    await database.close()

asyncio.run(main())
"""


def test_a_file_that_is_gone_is_an_absent_database(tmp_path: Path, sqlite_template: Path) -> None:
    file = tmp_path / "fedloom.db"
    shutil.copy(sqlite_template, file)
    database = Database(sqlite_address(file))

    async def add(number: int) -> None:
        async with database.transact("test") as transaction:
            await ADD.rows(transaction, id=number, n=0)

    asyncio.run(add(1))
    file.unlink()
    with pytest.raises(DatabaseAway, match="the file was deleted while it was in use"):
        asyncio.run(add(2))
    asyncio.run(database.close())
