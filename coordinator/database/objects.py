"""Objects of rows, read by prepared statements: SQLAlchemy's own queries of objects cost several times as much."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.orm.attributes import instance_dict, set_committed_value

from coordinator.database.prepared import Prepared, Row, given

R = TypeVar("R")


class Objects(Generic[R]):
    """A query of objects of one class, with ``given`` in the place of what calls give.

    An object that the session has already stays as it is, as in the session's own queries.

    Args:
        query: of a class of rows.
        fresh: whether objects that the session has take the row's values instead.
    """

    def __init__(self, query: Select[R], *, fresh: bool = False) -> None:
        self._kind: type[R] = query.column_descriptions[0]["entity"]
        self._mapper: Any = self._kind.__mapper__
        self._names = [attribute.key for attribute in self._mapper.column_attrs]
        self._key = [self._names.index(str(column.key)) for column in self._mapper.primary_key]
        columns = [getattr(self._kind, name) for name in self._names]
        self.prepared = Prepared(query.with_only_columns(*columns, maintain_column_froms=True))
        self._fresh = fresh

    async def all(self, session: AsyncSession, /, **values: Any) -> list[R]:
        """All objects, in a session. Raises what its own statements raise."""
        return [self._object(session, row) for row in await self.prepared.rows(session, **values)]

    async def first(self, session: AsyncSession, /, **values: Any) -> R | None:
        """The first object; None if there is none."""
        row = await self.prepared.first(session, **values)
        return self._object(session, row) if row is not None else None

    def _known(self, session: AsyncSession, key: Sequence[Any]) -> R | None:
        known: R | None = session.sync_session.identity_map.get(self._mapper.identity_key_from_primary_key(key))
        return known

    def _object(self, session: AsyncSession, row: Row) -> R:
        known = self._known(session, [row[place] for place in self._key])
        if known is None:
            new: R = self._mapper.class_manager.new_instance()
            instance_dict(new).update(zip(self._names, row, strict=True))
            make_transient_to_detached(new)
            session.add(new)
            return new
        if self._fresh:
            for name, value in zip(self._names, row, strict=True):
                set_committed_value(known, name, value)
        return known


class ByKey(Objects[R]):
    """A query of the object with a primary key. kind: a class of rows."""

    def __init__(self, kind: type[R]) -> None:
        self._columns = [str(column.key) for column in kind.__mapper__.primary_key]  # type: ignore[attr-defined]
        super().__init__(select(kind).where(*(getattr(kind, name) == given(name) for name in self._columns)))

    async def get(self, session: AsyncSession, *key: Any) -> R | None:
        """The object, which the session may have already; None if there is none. key: in the order of its columns."""
        known = self._known(session, key)
        return known or await self.first(session, **dict(zip(self._columns, key, strict=True)))

    async def get_one(self, session: AsyncSession, *key: Any) -> R:
        """The object, which exists."""
        found = await self.get(session, *key)
        assert found is not None, key
        return found
