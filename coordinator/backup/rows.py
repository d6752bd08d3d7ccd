"""One moment of a database, copied to another one of either kind."""

import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, ColumnElement, DateTime, MetaData, Table, Text, TypeDecorator, cast, insert, select
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import NullType, TypeEngine

from coordinator.database.sessions import Database, UtcTime
from coordinator.database.tables import BlobChunkRow, BlobRow, UploadRow

BYTES = frozenset({BlobRow.__tablename__, BlobChunkRow.__tablename__})
"""Tables of bytes. Those that count come as blobs of their own; others belong to whoever is putting them just now."""

_LEFT_OUT = BYTES | {UploadRow.__tablename__, "alembic_version"}  # what was on its way is sent again

_BATCH = 1000


class _JsonText(TypeDecorator[str]):
    """JSON as the text that is stored: what was NULL stays NULL, and what was ``null`` stays that."""

    impl = NullType
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return cast(column, Text)


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[AsyncSession]:
    """A session that sees one moment of the database, whatever is written meanwhile."""
    async with database.read() as session:
        if not database.is_sqlite:  # there every transaction is one
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            await session.connection(execution_options=options)
        yield session


def sqlite_at(path: Path) -> Database:
    """The SQLite database in a file."""
    return Database(f"sqlite+aiosqlite:///{path}")


def settle(path: Path) -> None:
    """Have a SQLite database that nobody has open be one file, without a log beside it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def tables_of(connection: Connection) -> dict[str, Table]:
    """The tables to copy by name, in the order of their references, as they are in this SQLite database.

    They are read from the database, not taken from the models, since its schema may be an older one. Their types fit
    both kinds of databases.
    """
    metadata = MetaData()
    metadata.reflect(connection)
    tables = {table.name: table for table in metadata.sorted_tables if table.name not in _LEFT_OUT}
    for table in tables.values():
        for column in table.columns:
            column.type = _for_both(column.type)
    return tables


def _for_both(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    if isinstance(kind, JSON):
        return _JsonText()
    return UtcTime() if isinstance(kind, DateTime) else kind.as_generic()


async def copy_rows(source: AsyncSession, target: AsyncSession, tables: Iterable[Table]) -> None:
    """Copy all rows of the tables."""
    for table in tables:
        found = await source.stream(select(table))
        async for rows in found.mappings().partitions(_BATCH):
            await target.execute(insert(table), [dict(row) for row in rows])
