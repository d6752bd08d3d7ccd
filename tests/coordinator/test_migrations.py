"""Migrations: they make what the models say, go down and up again, and know a newer schema when they see one."""

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

from coordinator.db import Database
from coordinator.migrate import SchemaTooNew, alembic_config, migrate
from coordinator.settings import Settings
from coordinator.tables import Base


def with_database(data_dir: Path, database_url: str | None, work: Callable[[Database], Any]) -> Any:
    async def run() -> Any:
        database = Database(Settings(data_dir=data_dir, database_url=database_url).sqlalchemy_url)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


async def on_connection(database: Database, work: Callable[[Connection], Any]) -> Any:
    async with database.engine.begin() as connection:
        return await connection.run_sync(work)


def test_the_migrations_make_what_the_models_say(data_dir: Path, database_url: str | None) -> None:
    def differences(connection: Connection) -> Any:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, Base.metadata)

    assert with_database(data_dir, database_url, lambda database: on_connection(database, differences)) == []


def test_down_and_up_again(data_dir: Path, database_url: str | None) -> None:
    async def work(database: Database) -> list[list[str]]:
        found = []
        for step in ("downgrade", "upgrade"):
            target = "base" if step == "downgrade" else "head"
            await on_connection(
                database, lambda connection, s=step, t=target: getattr(command, s)(alembic_config(connection), t)
            )
            found.append(await on_connection(database, lambda connection: inspect(connection).get_table_names()))
        await migrate(database)  # changes nothing
        return found

    down, up = with_database(data_dir, database_url, work)
    assert down == ["alembic_version"]
    assert sorted(up) == sorted([*Base.metadata.tables, "alembic_version"])


def test_a_newer_schema_is_refused_and_left_alone(data_dir: Path, database_url: str | None) -> None:
    async def work(database: Database) -> str:
        async with database.write() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaTooNew, match="schema 9999, which this version does not know; upgrade fedloom"):
            await migrate(database)
        async with database.read() as session:
            return str(await session.scalar(text("SELECT version_num FROM alembic_version")))

    assert with_database(data_dir, database_url, work) == "9999"
