"""Migrations: they produce the schema of the models, upgrade a database in place, and refuse an unknown schema."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from coordinator.database.migrate import UnknownSchema, alembic_config, migrate
from coordinator.database.sessions import Database
from coordinator.database.tables import Base
from coordinator.main import prepare
from coordinator.settings import Settings
from tests.support import next_release


def with_database(data_dir: Path, database_url: str | None, work: Callable[[Database], Any]) -> Any:
    async def run() -> Any:
        database = Database(Settings(data_dir=data_dir, database_url=database_url).database)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


async def on_connection(database: Database, work: Callable[[Connection], Any]) -> Any:
    async with database.engine.begin() as connection:
        return await connection.run_sync(work)


async def revision_of(database: Database) -> Any:
    async with database.read() as session:
        return await session.scalar(text("SELECT version_num FROM alembic_version"))


def test_the_migrations_produce_the_schema_of_the_models(data_dir: Path, database_url: str | None) -> None:
    def differences(connection: Connection) -> Any:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, Base.metadata)

    assert with_database(data_dir, database_url, lambda database: on_connection(database, differences)) == []


def test_down_and_up_again(data_dir: Path, database_url: str | None) -> None:
    async def work(database: Database) -> list[list[str]]:
        found = []
        for step, target in (("downgrade", "base"), ("upgrade", "head")):
            await on_connection(
                database, lambda connection, s=step, t=target: getattr(command, s)(alembic_config(connection), t)
            )
            found.append(await on_connection(database, lambda connection: inspect(connection).get_table_names()))
        await migrate(database)  # changes nothing
        return found

    down, up = with_database(data_dir, database_url, work)
    assert down == ["alembic_version"]
    assert {*up} == {*Base.metadata.tables, "alembic_version"}


def test_a_database_of_an_older_release_is_upgraded_with_its_rows(
    data_dir: Path, database_url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next release is simulated: it has one more migration."""
    head = with_database(data_dir, database_url, revision_of)
    columns, values = "id, token_hash, labels, note, created_at, expires_at", "'a', 'h', '{}', '', CURRENT_TIMESTAMP"
    token = f"INSERT INTO tokens ({columns}) VALUES ({values}, CURRENT_TIMESTAMP)"

    async def work(database: Database) -> list[Any]:
        async with database.write("test") as session:
            await session.execute(text(token))
        await migrate(database)
        async with database.read() as session:
            return [*(await session.execute(text("SELECT id, color FROM tokens"))).all()]

    next_release.install(tmp_path, head, monkeypatch)
    assert with_database(data_dir, database_url, work) == [("a", "blue")]
    assert with_database(data_dir, database_url, revision_of) == next_release.REVISION


@pytest.mark.parametrize("revision", ["9999", "0004"])
def test_a_database_of_other_code_is_refused_and_left_alone(
    data_dir: Path, database_url: str | None, revision: str
) -> None:
    async def work(database: Database) -> None:
        async with database.write("test") as session:
            await session.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
        wanted = f"schema {revision}, which this version of fedloom does not know; use the version that made it, or an"
        with pytest.raises(UnknownSchema, match=wanted):
            await migrate(database)

    with_database(data_dir, database_url, work)
    assert with_database(data_dir, database_url, revision_of) == revision
    with pytest.raises(UnknownSchema):  # a coordinator does not start either
        prepare(Settings(data_dir=data_dir, database_url=database_url))
