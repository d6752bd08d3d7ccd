"""SQLAlchemy's engines for SQLite and PostgreSQL: how they connect, and how transactions begin.

SQLite's default transactions can lose updates (two readers may both proceed to write), so its writers begin with
``BEGIN IMMEDIATE``, and share one connection.
"""

from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from coordinator.database.address import Address
from coordinator.database.driver_errors import translate
from coordinator.database.postgres.connecting import connect_postgres
from coordinator.database.sqlite.dialect import COMPILED
from coordinator.database.sqlite.statements import PRAGMAS_OF_WRITERS, connect

FREE_S = 15.0
"""Seconds that work waits for a free connection. SQLite's writers share one."""
LOCK_S, READ_LOCK_S = 10.0, 1.0
"""Seconds that SQLite waits for another process's lock. Readers wait in the event loop's thread, and hardly ever."""
_KEPT = 10
"""Most connections to PostgreSQL that stay open unused."""
_KEPT_S = 300
"""Seconds after which one is opened anew: a firewall may have dropped it without a word."""


def postgres_engine(address: Address, connections: int) -> AsyncEngine:
    """An engine for PostgreSQL. connections: most that it opens."""
    kept = min(_KEPT, connections)
    engine = _engine(
        address,
        async_creator=partial(connect_postgres, address),
        pool_size=kept,
        max_overflow=connections - kept,
        pool_recycle=_KEPT_S,
        json_deserializer=str,  # documents are parsed by their columns' type, on both databases
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def _on_checkout(connection: Any, _record: ConnectionPoolEntry, _proxy: Any) -> None:
        if connection.driver_connection.is_closed():  # SQLAlchemy's own look asks the server, three times
            raise DisconnectionError

    return engine


def sqlite_engine(address: Address, file: Path, *, begin: str | None, pool_size: int) -> AsyncEngine:
    """An engine for SQLite. begin: the statement that begins transactions; None for single statements, without one."""
    engine = _engine(
        address,
        async_creator=partial(connect, file),
        pool_size=pool_size,
        max_overflow=0,
        execution_options={"compiled_cache": COMPILED},
        **({"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True} if begin is None else {}),
    )
    lock_ms = round(1000 * (LOCK_S if begin == "BEGIN IMMEDIATE" else READ_LOCK_S))

    @event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # turn off the driver's own BEGIN; see _on_begin
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={lock_ms}")
        for pragma in PRAGMAS_OF_WRITERS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    if begin is not None:

        @event.listens_for(engine.sync_engine, "begin")
        def _on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine


def _engine(address: Address, **options: Any) -> AsyncEngine:
    """An engine whose errors quote no values. options: of ``create_async_engine``."""
    engine = create_async_engine(address.url, hide_parameters=True, pool_timeout=FREE_S, **options)
    event.listen(engine.sync_engine, "handle_error", lambda context: translate(context, address))
    return engine
