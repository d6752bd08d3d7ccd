"""Keyset pages: a page costs the same wherever it is in the listing, and rows that come in between shift nothing."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from coordinator.database.numbers import MAX_INT
from coordinator.errors import Invalid

R = TypeVar("R")
K = TypeVar("K", int, str)


async def fetch_page(
    session: AsyncSession,
    query: Select[R],
    key: InstrumentedAttribute[K],
    read_key: Callable[[str], K],
    *,
    cursor: str | None,
    limit: int,
    newest_first: bool = False,
) -> tuple[Sequence[R], str | None]:
    """The rows after a cursor, in the order of a unique key, and the cursor of the next page. Raises Invalid."""
    if cursor is not None:
        try:
            start: Any = read_key(cursor)
        except ValueError as error:
            raise Invalid(("cursor", "not a cursor of this listing")) from error
        if isinstance(start, int) and not 0 <= start <= MAX_INT:
            raise Invalid(("cursor", "not a cursor of this listing"))
        query = query.where(key < start if newest_first else key > start)
    query = query.order_by(key.desc() if newest_first else key).limit(limit + 1)
    rows = (await session.scalars(query)).all()
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], str(getattr(rows[limit - 1], key.key))
