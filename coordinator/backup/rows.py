"""Copies a snapshot of a database to another database of either kind."""

import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, ColumnElement, DateTime, MetaData, Table, Text, TypeDecorator, cast, insert, select
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import NullType, TypeEngine

from coordinator.database.address import sqlite_address
from coordinator.database.columns import UtcTime
from coordinator.database.sessions import Database
from coordinator.database.tables import BlobChunkRow, BlobRow, UploadRow

BYTE_TABLES = frozenset({BlobRow.__tablename__, BlobChunkRow.__tablename__})
"""Tables of blobs' bytes. Referenced blobs are copied as files; others belong to writes in progress."""

_NOT_COPIED = BYTE_TABLES | {UploadRow.__tablename__, "alembic_version"}  # agents repeat unfinished uploads

_BATCH = 1000


class _JsonText(TypeDecorator[str]):
    """JSON as its stored text, so that SQL NULL and JSON ``null`` stay distinct."""

    impl = NullType
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return cast(column, Text)


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[AsyncSession]:
    """A session that sees one snapshot of the database, whatever is written meanwhile."""
    async with database.read() as session:
        if not database.is_sqlite:  # SQLite transactions are snapshots
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            await session.connection(execution_options=options)
        yield session


def sqlite_at(path: Path) -> Database:
    """The SQLite database in a file."""
    return Database(sqlite_address(path))


def merge_log(path: Path) -> None:
    """Merge the write-ahead log of a SQLite database into its file. Nobody may have the database open."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def tables_of(connection: Connection) -> dict[str, Table]:
    """The tables to copy, by name, in the order of their references.

    They are reflected from this SQLite database instead of taken from the models, since its schema may be older. Their
    types fit both kinds of databases.
    """
    metadata = MetaData()
    metadata.reflect(connection)
    tables = {table.name: table for table in metadata.sorted_tables if table.name not in _NOT_COPIED}
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
        result = await source.stream(select(table))
        async for rows in result.mappings().partitions(_BATCH):
            await target.execute(insert(table), [dict(row) for row in rows])
