"""SQLAlchemy's dialect for SQLite, with one store of compiled statements for all engines of the process.

A database has an engine each for writes, reads and single statements. Each would compile the statements that it shares
with the others by itself: half a millisecond at the first use of one.
"""

from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.util import LRUCache

SCHEME = "sqlite+fedloom"
COMPILED: LRUCache[Any, Any] = LRUCache(1000)
"""For the execution option ``compiled_cache``."""


class SharingDialect(SQLiteDialect_aiosqlite):
    """Equal to each other one, as a compiled statement's key in the store has its dialect in it."""

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return type(other) is SharingDialect

    def __hash__(self) -> int:
        return hash(SharingDialect)


registry.register("sqlite.fedloom", __name__, SharingDialect.__name__)
