"""Keyset pages: each page of a listing costs the same, and rows added meanwhile shift nothing."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from coordinator.database.numbers import MAX_INT
from coordinator.errors import Invalid

R = TypeVar("R")
K = TypeVar("K", int, str)

_BAD_CURSOR = ("cursor", "not a cursor of this listing; use next_cursor of its previous page")


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
    """Fetch the rows after a cursor, in the order of a unique key.

    Returns the rows, and the cursor of the next page, None on the last. Raises Invalid if the cursor is not valid.
    """
    if cursor is not None:
        try:
            start: Any = read_key(cursor)
        except ValueError as error:
            raise Invalid(_BAD_CURSOR) from error
        if isinstance(start, int) and not 0 <= start <= MAX_INT:
            raise Invalid(_BAD_CURSOR)
        query = query.where(key < start if newest_first else key > start)
    query = query.order_by(key.desc() if newest_first else key).limit(limit + 1)
    rows = (await session.scalars(query)).all()
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], str(getattr(rows[limit - 1], key.key))
