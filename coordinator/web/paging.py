"""Keyset pages: each page of a listing costs the same, and rows added meanwhile shift nothing.

A cursor is the key of a page's last row with a checksum of listing and key. So a mistyped cursor, or one of another
listing, is refused; it would otherwise give an empty or a wrong page.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from coordinator.database.numbers import read_number
from coordinator.errors import Invalid

R = TypeVar("R")
K = TypeVar("K", int, str)

_CHECK_CHARS = 8
_OTHER = ("cursor", "not a cursor of this listing; use next_cursor of its previous page")


def cursor_after(listing: str, key: int | str) -> str:
    """The cursor of the page that follows a key."""
    return f"{key}.{_checksum(listing, str(key))}"


def read_cursor(listing: str, cursor: str) -> str:
    """The key in a cursor. Raises Invalid if it is not a cursor of this listing."""
    key, _, checksum = cursor.rpartition(".")
    if checksum != _checksum(listing, key):
        raise Invalid(_OTHER)
    return key


def read_number_cursor(listing: str, cursor: str | None) -> int:
    """The number in a cursor of a listing by number; 0 without a cursor. Raises Invalid."""
    if cursor is None:
        return 0
    number = read_number(read_cursor(listing, cursor))
    if number is None:  # nobody was given such a cursor
        raise Invalid(_OTHER)
    return number


def _checksum(listing: str, key: str) -> str:
    return hashlib.sha256(f"{listing}\n{key}".encode()).hexdigest()[:_CHECK_CHARS]


async def fetch_page(
    session: AsyncSession,
    query: Select[R],
    key: InstrumentedAttribute[K] | InstrumentedAttribute[K | None],
    listing: str,
    *,
    cursor: str | None,
    limit: int,
    newest_first: bool = False,
) -> tuple[Sequence[R], str | None]:
    """Fetch the rows after a cursor, in the order of a unique key.

    Returns the rows, and the cursor of the next page, None on the last. Raises Invalid if the cursor is not valid.

    Args:
        session: to read with.
        query: selects the rows of the listing, filtered.
        key: the column of the key, whose values are texts or numbers.
        listing: the name of the listing, with the id of the campaign if it is one campaign's.
        cursor: of the page; None for the first.
        limit: most rows in the page.
        newest_first: in descending order of the key.
    """
    if cursor is not None:
        by_number = key.type.python_type is int
        start: int | str = read_number_cursor(listing, cursor) if by_number else read_cursor(listing, cursor)
        query = query.where(key < start if newest_first else key > start)
    query = query.order_by(key.desc() if newest_first else key).limit(limit + 1)
    rows = (await session.scalars(query)).all()
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], cursor_after(listing, getattr(rows[limit - 1], key.key))


def cut_page(
    items: Iterable[R], name_of: Callable[[R], str], listing: str, cursor: str | None, limit: int
) -> tuple[list[R], str | None]:
    """A page of items that are in memory, by their names; as ``fetch_page`` otherwise."""
    after = read_cursor(listing, cursor) if cursor is not None else ""
    left = sorted((item for item in items if name_of(item) > after), key=name_of)
    return left[:limit], cursor_after(listing, name_of(left[limit - 1])) if len(left) > limit else None
