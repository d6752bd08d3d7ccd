"""Migrations: they make what the models say, go down and up again, and know a newer schema when they see one."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
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
from coordinator.tables import AgentRow, Base, CampaignRow, ParticipantRow, TaskRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


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


def test_the_counted_updates_are_added_and_taken_away_beside_data(data_dir: Path, database_url: str | None) -> None:
    async def work(database: Database) -> list[tuple[Any, ...]]:
        async with database.write("test") as session:
            session.add(
                AgentRow(id="a", name="ada", labels={}, state="active", secret_hash="s", version="1", created_at=NOW)
            )
            session.add(
                CampaignRow(
                    id="c", name="c", spec_json={}, state="running", created_at=NOW, resumed_at=NOW, rounds_closed=1
                )
            )
            await session.flush()
            session.add(
                ParticipantRow(
                    campaign_id="c",
                    agent_id="a",
                    agent_name="ada",
                    state="prepared",
                    client_number=0,
                    counted_sha256="d",
                )
            )
            for number, state in enumerate(("done", "superseded")):
                session.add(
                    TaskRow(
                        id=f"t{number}",
                        campaign_id="c",
                        agent_id="a",
                        kind="train",
                        state=state,
                        round=1,
                        created_at=NOW,
                    )
                )
        found = []
        for step, target in (("downgrade", "0001"), ("upgrade", "head")):
            await on_connection(
                database, lambda connection, s=step, t=target: getattr(command, s)(alembic_config(connection), t)
            )
            async with database.read() as session:
                participants = await session.execute(text("SELECT * FROM participants"))
                found.append(tuple(participants.mappings().one().items()))
                states = await session.scalars(text("SELECT state FROM tasks ORDER BY id"))
                found.append(tuple(states.all()))
        return found

    before, states_before, after, states_after = with_database(data_dir, database_url, work)
    assert "counted_sha256" not in dict(before)
    assert dict(before) | {"counted_sha256": None} == {
        key: dict(after)[key] for key in (*dict(before), "counted_sha256")
    }
    assert (dict(after)["agent_name"], dict(after)["client_number"]) == ("ada", 0)
    assert states_before == states_after == ("done", "cancelled")


def test_a_newer_schema_is_refused_and_left_alone(data_dir: Path, database_url: str | None) -> None:
    async def work(database: Database) -> str:
        async with database.write("test") as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaTooNew, match="schema 9999, which this version does not know; upgrade fedloom"):
            await migrate(database)
        async with database.read() as session:
            return str(await session.scalar(text("SELECT version_num FROM alembic_version")))

    assert with_database(data_dir, database_url, work) == "9999"
