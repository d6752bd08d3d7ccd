"""The raw records of the owner's files: JSON lines, JSON and CSV.

Messages say line numbers and column names, never what stands in a row: they leave the building.
"""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from agent.errors import TaskFailed
from shared.wire.leases import FailureKind


def read_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each record of a file with its place, such as "line 3". Raises TaskFailed (data) on reaching what is wrong."""
    readers = {".jsonl": _json_lines, ".json": _json_list, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        refuse(path, f"unknown kind of file; known are {', '.join(readers)}")
    try:
        yield from reader(path)
    except FileNotFoundError:
        refuse(path, "there is no such file; correct its path in agent.toml")
    except UnicodeDecodeError:
        refuse(path, "the file is not UTF-8 text")
    except OSError as error:
        refuse(path, f"the file cannot be read ({error.strerror})")


def refuse(path: Path, message: str) -> NoReturn:
    """Raise TaskFailed (data) with the file's name."""
    raise TaskFailed(FailureKind.DATA, f"{path.name}: {message}")


def _json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deeply nested"
                refuse(path, f"line {number} is not JSON ({reason})")
            if not isinstance(record, dict):
                refuse(path, f"line {number} is not a JSON object")
            yield f"line {number}", record


def _json_list(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = path.read_text(encoding="utf-8-sig")
    if not text.strip():
        return
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        refuse(path, f"line {error.lineno} is not JSON ({error.msg})")
    except RecursionError:
        refuse(path, "the file is not JSON (too deeply nested)")
    if not isinstance(records, list):
        refuse(path, "the file is not a list of JSON objects")
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            refuse(path, f"row {number} is not a JSON object")
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
                    refuse(
                        path,
                        f"the row that ends on line {reader.line_num} has {len(cells)} cells, the header {len(header)}",
                    )
                yield f"the row that ends on line {reader.line_num}", dict(zip(header, cells, strict=True))
        except csv.Error as error:
            refuse(path, f"line {reader.line_num} is not CSV ({error})")
