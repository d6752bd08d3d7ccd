"""Statements of the hot path: built and compiled once, then given to the driver with their values.

    _BY_HASH = Prepared(select(AgentRow.id).where(AgentRow.secret_hash == given("digest")))
    row = await _BY_HASH.first(session, digest=digest)

SQLAlchemy builds a statement for each call, looks its text up in a cache, and wraps each row. That costs more than a
hundred times what SQLite takes to answer, and every request of an agent has several. The columns' types check and
convert values here as they do there.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import BindParameter, Dialect, bindparam
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import Executable
from sqlalchemy.types import TypeEngine

from coordinator.database.columns import RealNumber

Row = tuple[Any, ...]
Convert = Callable[[Any], Any]
_GIVEN, _CONNECTION = "given_", "connection"


def given(name: str) -> BindParameter[Any]:
    """A value that each call gives, by this name."""
    return bindparam(_GIVEN + name, None)


def given_each(*names: str) -> dict[str, BindParameter[Any]]:
    """Columns' values that each call gives, by the columns' names."""
    return {name: given(name) for name in names}


class Prepared:
    """A statement of columns, with ``given`` in the place of what calls give.

    Changes of ORM objects are flushed before it, as before a session's own statements. It changes rows alone: an object
    of a row keeps what it had.

    Args:
        statement: of columns, not of ORM classes. An ``IN`` needs its values here, or a ``given`` for each.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._texts: dict[str, Text] = {}

    def __str__(self) -> str:
        return str(self._statement)

    async def rows(self, within: "AsyncSession | Transaction", /, **values: Any) -> Sequence[Row]:
        """All rows, in a transaction. Raises what a session's own statements raise."""
        return await (await _connection_of(within)).rows(self, values)

    async def run_each(self, within: "AsyncSession | Transaction", /, values: Sequence[dict[str, Any]]) -> None:
        """Run it once with each of the values, in one call of the driver. It returns no rows."""
        await (await _connection_of(within)).run_each(self, values)

    async def first(self, within: "AsyncSession | Transaction", /, **values: Any) -> Row | None:
        """The first row; None if there is none."""
        rows = await self.rows(within, **values)
        return rows[0] if rows else None

    def text_for(self, dialect: Dialect) -> "Text":
        """The statement in the words of a database."""
        text = self._texts.get(dialect.name)
        if text is None:
            text = self._texts[dialect.name] = Text(self._statement, dialect)
        return text


class Statements(Protocol):
    """Runs prepared statements in a transaction. Raises what a session's statements raise."""

    async def rows(self, statement: Prepared, values: dict[str, Any]) -> Sequence[Row]:
        """The rows of a statement."""
        ...

    async def run_each(self, statement: Prepared, values: Sequence[dict[str, Any]]) -> None:
        """Run a statement without rows once with each of the values."""
        ...


class Driver(Protocol):
    """A database's driver asked directly, on connections of its own. Raises DatabaseAway and Unstorable, and otherwise
    SQLAlchemy's errors."""

    async def ask(self, query: Prepared, values: dict[str, Any]) -> Sequence[Row]:
        """The rows of a single query."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Statements]:
        """One transaction: committed at the end of the block, rolled back if the block raises."""
        ...

    async def within(self, connection: AsyncConnection) -> Statements:
        """Runs statements in the transaction of a session's connection."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


DRIVER = "driver"
"""A session's Driver in its ``info``."""


@dataclass
class Transaction:
    """A transaction of prepared statements alone.

    connection: runs them. info: what runs at its end; see ``database.sessions``.
    """

    connection: Statements
    info: dict[str, Any] = field(default_factory=dict)


async def _connection_of(within: AsyncSession | Transaction) -> Statements:
    """What runs statements in a transaction, after changes of a session's objects are flushed."""
    if isinstance(within, Transaction):
        return within.connection
    session, objects = within, within.sync_session
    if objects.new or objects.dirty or objects.deleted:
        await session.flush()
    connection: Statements | None = session.info.get(_CONNECTION)
    if connection is None:
        driver: Driver = session.info[DRIVER]
        connection = session.info[_CONNECTION] = await driver.within(await session.connection())
    return connection


class Text:
    """A statement in the words of one kind of database."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        assert compiled.positiontup is not None
        self.sql = str(compiled)
        places = [
            (name.removeprefix(_GIVEN), _to_driver(_bind(compiled, name), dialect)) for name in compiled.positiontup
        ]
        self._fixed = {name: value for name, value in compiled.params.items() if not name.startswith(_GIVEN)}
        self._asked = {name.removeprefix(_GIVEN) for name in compiled.params.keys() - self._fixed.keys()}
        columns = statement.exported_columns if hasattr(statement, "exported_columns") else ()
        self._names = [name for name, _ in places]
        self._to_driver = [(at, convert) for at, (_, convert) in enumerate(places) if convert is not None]
        converts = [_from_driver(column.type, dialect) for column in columns]
        self._from_driver = [(at, convert) for at, convert in enumerate(converts) if convert is not None]

    def parameters(self, values: dict[str, Any]) -> tuple[Any, ...]:
        """The values in the order of their places."""
        assert values.keys() == self._asked, f"asked for {self._asked}, given {values.keys()}"
        of = {**self._fixed, **values}
        found = [of[name] for name in self._names]
        for at, convert in self._to_driver:  # by place: most values need none
            found[at] = convert(found[at])
        return tuple(found)

    def converted(self, rows: Sequence[Any]) -> Sequence[Row]:
        """Rows of a driver, as the columns' types give them."""
        if not self._from_driver:
            return [tuple(row) for row in rows]
        found = []
        for row in rows:
            values = list(row)
            for at, convert in self._from_driver:
                values[at] = convert(values[at])
            found.append(tuple(values))
        return found


def _bind(compiled: SQLCompiler, name: str) -> BindParameter[Any]:
    """The parameter with a name; the values of an ``IN`` have its name and a number."""
    return compiled.binds[name if name in compiled.binds else name.rpartition("_")[0]]


def _to_driver(bind: BindParameter[Any], dialect: Dialect) -> Convert | None:
    return bind.type.dialect_impl(dialect).bind_processor(dialect)


def _from_driver(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    if isinstance(kind, RealNumber):  # floats in both drivers; asyncpg's dialect would ask for the code of its type
        return None
    return kind.dialect_impl(dialect).result_processor(dialect, None)
