"""Rows to train on, out of the owner's records by the columns that the settings name.

Messages say line numbers and column names, never what stands in a row: they leave the building.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.records import read_records, refuse
from agent.settings import DataSource
from agent.train.templates import Pair, Row
from shared.campaign import TrainingKind


def read_rows(path: Path, source: DataSource, kind: TrainingKind) -> list[Row] | list[Pair]:
    """All rows of a file, by the columns that *source* names for a kind of training: pairs for dpo.

    Raises TaskFailed (data) with the place that is wrong.
    """
    rows: list[Any] = []
    columns: dict[str, None] = {}
    has_input = False
    for place, record in read_records(path):
        columns |= dict.fromkeys(record)
        has_input = has_input or (source.input is not None and source.input in record)
        rows.append(_row(path, place, record, source, kind))
    if not rows:
        refuse(path, "the file has no rows")
    if source.input is not None and not has_input:
        refuse(path, f"no row has the column {source.input!r} (input); there are {_listed(columns)}")
    return rows


def _row(path: Path, place: str, record: Mapping[str, Any], source: DataSource, kind: TrainingKind) -> Row | Pair:
    values = {}
    for role, column in source.columns(kind).items():
        if column not in record:
            refuse(path, f"{place} has no column {column!r} ({role}); it has {_listed(record)}")
        values[role] = _text(path, place, role, column, record[column])
    extra = record.get(source.input) if source.input is not None else None
    values["input"] = "" if extra is None else _text(path, place, "input", str(source.input), extra)
    return Pair(**values) if kind == "dpo" else Row(**values)


def _text(path: Path, place: str, role: str, column: str, value: object) -> str:
    if not isinstance(value, str):
        held = "null" if value is None else type(value).__name__
        refuse(path, f"{place}: the column {column!r} ({role}) holds {held}, not text")
    return value


def _listed(columns: Mapping[str, Any]) -> str:
    return ", ".join(repr(column[:60]) for column in list(columns)[:20]) or "none"
