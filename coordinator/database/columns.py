"""Types of the tables' columns: the last check before a value reaches a driver, equal on SQLite and PostgreSQL.

PostgreSQL refuses NUL in texts, numbers beyond a column's range and texts beyond its length; SQLite stores what it
cannot return. A value of a request that arrives here was missed where it came in.
"""

import json
import math
import operator
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Double, Integer, String, Text, TypeDecorator
from sqlalchemy.types import TypeEngine

from coordinator.errors import Unstorable
from shared import bounds
from shared.text.unsafe import one_line


def _check_text(value: str, max_length: int | None = None) -> str:
    if "\0" in value:
        raise Unstorable("a text contains a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unstorable("a text contains half of a character (a lone surrogate)") from None
    if max_length is not None and len(value) > max_length:
        raise Unstorable(f"a text has {len(value)} characters, at most {max_length} are stored")
    return value


def _check_number(value: Any, largest: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise Unstorable("a value is not a whole number") from None
    if not -largest - 1 <= number <= largest:
        raise Unstorable(f"a number is not between {-largest - 1} and {largest}")
    return number


def _check_json(value: Any) -> None:
    """Raise Unstorable for a part that one of the databases refuses, or that no reply could contain."""
    match value:
        case str():
            _check_text(value)
        case int():
            _check_number(value, bounds.MAX_INT)
        case float():
            if not math.isfinite(value):
                raise Unstorable("a number is not finite")
        case dict():
            for key, part in value.items():
                _check_text(key)
                _check_json(part)
        case list() | tuple():
            for part in value:
                _check_json(part)


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


class ShortText(TypeDecorator[str]):
    """A text of at most so many characters."""

    impl = String
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        super().__init__(length)
        self._max_length = length

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else _check_text(value, self._max_length)

    @property
    def python_type(self) -> type[str]:
        return str

    def coerce_compared_value(self, _op: Any, value: Any) -> TypeEngine[Any]:
        return ShortText() if isinstance(value, str) else self  # a long text may be looked for, in vain


class Key(ShortText):
    """An id or a digest, made by the coordinator. A longer text is not refused: a request may ask for it, in vain."""

    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self._max_length = None


class LongText(ShortText):
    """A text of any length."""

    impl = Text
    cache_ok = True


class Sentence(LongText):
    """A text for people that may quote other parties: stored as one line, with control characters as escapes."""

    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else one_line(value)


class WholeNumber(TypeDecorator[int]):
    """An integer of 32 bits."""

    impl = Integer
    cache_ok = True
    largest = bounds.MAX_COUNT

    @property
    def python_type(self) -> type[int]:
        return int

    def process_bind_param(self, value: int | None, _dialect: Dialect) -> int | None:
        return None if value is None else _check_number(value, self.largest)


class BigWholeNumber(WholeNumber):
    """An integer of 64 bits."""

    impl = BigInteger
    cache_ok = True
    largest = bounds.MAX_INT


class RealNumber(TypeDecorator[float]):
    """A finite number."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, _dialect: Dialect) -> float | None:
        if value is not None and not math.isfinite(value):
            raise Unstorable("a number is not finite")
        return value


class Document(TypeDecorator[Any]):
    """JSON. None is NULL. Both drivers give and take it as text, SQLite's a bare number as a number."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return super().result_processor(dialect, coltype) or _parsed  # PostgreSQL's dialect leaves it to the driver

    def process_bind_param(self, value: Any, _dialect: Dialect) -> Any:
        _check_json(value)
        return value


class CampaignFile(Document):
    """A campaign file as JSON. What is read of one text is shared: change no part of it.

    A request of an agent reads the file of its campaign up to five times.
    """

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return lru_cache(200)(super().result_processor(dialect, coltype))


class UtcTime(TypeDecorator[datetime]):
    """A timezone-aware UTC time. SQLite stores no zone, so it is removed and restored there."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        try:
            utc = value.astimezone(UTC)
        except (OverflowError, ValueError):
            raise Unstorable("a time is not between the years 1 and 9999") from None
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)
