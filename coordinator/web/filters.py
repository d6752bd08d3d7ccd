"""Filters of listings: query parameters, and the conditions in SQL that they stand for."""

from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query
from pydantic import AfterValidator
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

from coordinator.database.ids import first_id
from coordinator.errors import Invalid
from shared.text.labels import read_label
from shared.text.times import Time

S = TypeVar("S", bound=Select[Any])

_TIME_FORM = "ISO 8601 with a zone, such as `2026-01-31T12:00:00Z`; in a URL, `+` is written `%2B`"

Since = Annotated[Time | None, Query(description=f"Only from this time on: {_TIME_FORM}.")]
Until = Annotated[Time | None, Query(description=f"Only before this time: {_TIME_FORM}.")]
NameFilter = Annotated[str | None, Query(max_length=100, description="Only with exactly this name.")]


def _labels(given: list[str]) -> list[str]:
    for label in given:
        read_label(label)
    return given


Labels = Annotated[
    list[str],
    Query(
        alias="label",
        default_factory=list,
        max_length=20,
        description="Only with this label, as `NAME=VALUE`. May be repeated; then all must match.",
    ),
    AfterValidator(_labels),
]


def equal(query: S, *pairs: tuple[InstrumentedAttribute[Any], Any]) -> S:
    """The query for rows whose columns have the values. A value that is None sets no condition."""
    for column, value in pairs:
        if value is not None:
            query = query.where(column == value)
    return query


def labelled(query: S, column: InstrumentedAttribute[dict[str, Any]], labels: list[str]) -> S:
    """The query for rows whose labels include all of the given ones."""
    for name, value in map(read_label, labels):
        query = query.where(column[name].as_string() == value)
    return query


def id_between(query: S, key: InstrumentedAttribute[str], since: datetime | None, until: datetime | None) -> S:
    """The query for rows with ids from ``new_id`` that were made in a span of time, to the millisecond."""
    check_span(since, until)
    if since is not None:
        query = query.where(key >= first_id(since))
    return query.where(key < first_id(until)) if until is not None else query


def time_between(query: S, key: InstrumentedAttribute[datetime], since: datetime | None, until: datetime | None) -> S:
    """The query for rows with a time in a span."""
    check_span(since, until)
    if since is not None:
        query = query.where(key >= since)
    return query.where(key < until) if until is not None else query


def check_span(since: datetime | None, until: datetime | None) -> None:
    """Raise Invalid for a span that is empty."""
    if since is not None and until is not None and since >= until:
        raise Invalid(("until", "it must be later than since"))
