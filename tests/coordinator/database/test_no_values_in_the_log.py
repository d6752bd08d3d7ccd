"""Errors of the database that end in the log: they say what failed, and quote nothing of a request."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from coordinator.database.prepared import Prepared
from coordinator.database.sessions import Database
from coordinator.database.tables import OperatorKeyRow
from tests.coordinator.database.test_same_refusals import NOW, in_database

VALUE = "Sesame"
Run = Callable[[Database, Any], Awaitable[None]]
log = logging.getLogger("coordinator.test")

FAILURES: dict[str, Any] = {
    "twice the same key": insert(OperatorKeyRow).values(id="k1", key_hash=VALUE, created_at=NOW),
    "a row that is missing": text("INSERT INTO uploads VALUES ('u', :value, 'delta', :value, 1, 1, CURRENT_TIMESTAMP)"),
    "no value": text("INSERT INTO tokens (id, note) VALUES ('t', :value)"),
    "a table that is missing": text("SELECT :value FROM nowhere"),
    "wrong SQL": text("SELEKT :value"),
    "a value of another type": text("INSERT INTO blobs VALUES (CAST(:value AS TIMESTAMP), NULL)"),
}


async def in_session(database: Database, statement: Any) -> None:
    async with database.write("test") as session:
        await session.execute(statement)


async def prepared(database: Database, statement: Any) -> None:
    async with database.transact("test") as transaction:
        await Prepared(statement).rows(transaction)


async def asked(database: Database, statement: Any) -> None:
    await database.ask(Prepared(statement))


@pytest.mark.parametrize("run", [in_session, prepared, asked])
@pytest.mark.parametrize("failing", FAILURES)
def test_an_error_quotes_no_value(
    data_dir: Path, database_url: str | None, failing: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    statement = FAILURES[failing]
    if ":value" in str(statement):
        statement = statement.bindparams(value=VALUE)

    async def work(database: Database) -> None:
        async with database.write("first") as session:
            await session.execute(insert(OperatorKeyRow).values(id="k0", key_hash=VALUE, created_at=NOW))
        try:
            await run(database, statement)
        except Exception as error:
            log.exception("failed: %s", error)

    in_database(data_dir, database_url, work)
    assert VALUE not in caplog.text
    assert "Traceback" in caplog.text


def test_an_error_that_is_logged_whole_still_says_what_failed(
    data_dir: Path, database_url: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL's own error, which a traceback shows, tells the key in its detail."""

    async def work(database: Database) -> None:
        try:
            async with database.write("test") as session:
                for key in ("k1", "k2"):
                    await session.execute(insert(OperatorKeyRow).values(id=key, key_hash=VALUE, created_at=NOW))
        except DBAPIError as error:
            log.error("unexpected error", exc_info=error)

    in_database(data_dir, database_url, work)
    for part in ("Traceback", "operator_keys", "key_hash"):
        assert part in caplog.text
    assert VALUE not in caplog.text
