"""Reading the owner's files: JSON lines, JSON and CSV.

Messages say line numbers and column names, never what stands in a row: they leave the building.
"""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from agent.errors import TaskFailed
from agent.settings import DataSource
from agent.train.templates import Row
from shared.wire.leases import FailureKind


def _wrong(path: Path, message: str) -> NoReturn:
    raise TaskFailed(FailureKind.DATA, f"{path.name}: {message}")


def read_rows(path: Path, source: DataSource) -> list[Row]:
    """All rows of a file, by the columns that *source* names. Raises TaskFailed (data) with the place that is wrong."""
    readers = {".jsonl": _json_lines, ".json": _json_list, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        _wrong(path, f"unknown kind of file; known are {', '.join(readers)}")
    rows: list[Row] = []
    columns: dict[str, None] = {}
    has_input = False
    try:
        for place, record in reader(path):
            columns |= dict.fromkeys(record)
            has_input = has_input or (source.input is not None and source.input in record)
            rows.append(_row(path, place, record, source))
    except FileNotFoundError:
        _wrong(path, "there is no such file; correct its path in agent.toml")
    except UnicodeDecodeError:
        _wrong(path, "the file is not UTF-8 text")
    except OSError as error:
        _wrong(path, f"the file cannot be read ({error.strerror})")
    if not rows:
        _wrong(path, "the file has no rows")
    if source.input is not None and not has_input:
        _wrong(path, f"no row has the column {source.input!r} (input); there are {_listed(columns)}")
    return rows


def _row(path: Path, place: str, record: Mapping[str, Any], source: DataSource) -> Row:
    values = []
    for role, column in (("prompt", source.prompt), ("completion", source.completion)):
        if column not in record:
            _wrong(path, f"{place} has no column {column!r} ({role}); it has {_listed(record)}")
        values.append(_text(path, place, column, record[column]))
    extra = record.get(source.input) if source.input is not None else None
    further = "" if extra is None else _text(path, place, str(source.input), extra)
    return Row(prompt=values[0], input=further, completion=values[1])


def _text(path: Path, place: str, column: str, value: object) -> str:
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        _wrong(path, f"{place}: the column {column!r} holds {kind}, not text")
    return value


def _listed(columns: Mapping[str, Any]) -> str:
    return ", ".join(repr(column[:60]) for column in list(columns)[:20]) or "none"


def _json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deeply nested"
                _wrong(path, f"line {number} is not JSON ({reason})")
            if not isinstance(record, dict):
                _wrong(path, f"line {number} is not a JSON object")
            yield f"line {number}", record


def _json_list(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = path.read_text(encoding="utf-8-sig")
    if not text.strip():
        return
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        _wrong(path, f"line {error.lineno} is not JSON ({error.msg})")
    except RecursionError:
        _wrong(path, "the file is not JSON (too deeply nested)")
    if not isinstance(records, list):
        _wrong(path, "the file is not a list of JSON objects")
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            _wrong(path, f"row {number} is not a JSON object")
        yield f"row {number}", record


def _csv(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # its default, 128 KiB, is short for a document
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, None)
            if header is None:
                return
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    _wrong(
                        path,
                        f"the row that ends on line {reader.line_num} has {len(cells)} cells, the header {len(header)}",
                    )
                yield f"the row that ends on line {reader.line_num}", dict(zip(header, cells, strict=True))
        except csv.Error as error:
            _wrong(path, f"line {reader.line_num} is not CSV ({error})")
