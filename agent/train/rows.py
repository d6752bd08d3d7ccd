"""Rows to train on, out of the owner's records by the columns that the settings name.

Messages say line numbers and column names, never what stands in a row: they leave the building.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.records import read_records, refuse
from agent.settings import DataSource
from agent.train.templates import Row


def read_rows(path: Path, source: DataSource) -> list[Row]:
    """All rows of a file, by the columns that *source* names. Raises TaskFailed (data) with the place that is wrong."""
    rows: list[Row] = []
    columns: dict[str, None] = {}
    has_input = False
    for place, record in read_records(path):
        columns |= dict.fromkeys(record)
        has_input = has_input or (source.input is not None and source.input in record)
        rows.append(_row(path, place, record, source))
    if not rows:
        refuse(path, "the file has no rows")
    if source.input is not None and not has_input:
        refuse(path, f"no row has the column {source.input!r} (input); there are {_listed(columns)}")
    return rows


def _row(path: Path, place: str, record: Mapping[str, Any], source: DataSource) -> Row:
    values = []
    for role, column in (("prompt", source.prompt), ("completion", source.completion)):
        if column not in record:
            refuse(path, f"{place} has no column {column!r} ({role}); it has {_listed(record)}")
        values.append(_text(path, place, column, record[column]))
    extra = record.get(source.input) if source.input is not None else None
    further = "" if extra is None else _text(path, place, str(source.input), extra)
    return Row(prompt=values[0], input=further, completion=values[1])


def _text(path: Path, place: str, column: str, value: object) -> str:
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        refuse(path, f"{place}: the column {column!r} holds {kind}, not text")
    return value


def _listed(columns: Mapping[str, Any]) -> str:
    return ", ".join(repr(column[:60]) for column in list(columns)[:20]) or "none"
