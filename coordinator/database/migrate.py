"""Migrates the database to the schema of this version of the code."""

import asyncio
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection

import migrations
from coordinator.database.sessions import Database
from coordinator.database.tables import Base
from shared import crash_points

_NEWEST = "head"

_LOCK = 0x666C6F6F6D
"""Key of the advisory lock that keeps replicas from migrating at the same time."""

_alembic = threading.Lock()
"""Alembic keeps its context in globals, and several simulations of one process may start at the same time."""


class UnknownSchema(Exception):
    """The database was made by another version of Fedloom."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        super().__init__(
            f"the database has schema {revision}, which this version of fedloom does not know; "
            "use the version that made it, or an empty data folder and database"
        )


async def migrate(database: Database, revision: str = _NEWEST) -> None:
    """Upgrade the schema to a revision, by default the newest, in one transaction.

    Raises UnknownSchema and DatabaseAway.
    """
    await asyncio.to_thread(_alembic.acquire)  # in a thread: the lock's holder may be waiting for this loop
    try:
        with database.opened():
            async with database.engine.begin() as connection:
                if not database.is_sqlite:
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                await connection.run_sync(_upgrade, revision)
                crash_points.reach("migrate: before commit")
        crash_points.reach("migrate: committed")
    finally:
        _alembic.release()


def alembic_config(connection: Connection) -> Config:
    """Alembic's settings, pointed at the migrations in the installed package."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = Base.metadata
    return config


def _upgrade(connection: Connection, revision: str) -> None:
    config = alembic_config(connection)
    current = MigrationContext.configure(connection).get_current_revision()
    known = {_NEWEST, *(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())}
    for each in (current, revision):
        if each is not None and each not in known:
            raise UnknownSchema(each)
    command.upgrade(config, revision)
