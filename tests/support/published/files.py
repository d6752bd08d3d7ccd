"""Writes files in each layout."""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write(path: Path, content: Any) -> Path:
    """Write bytes, a text, or JSON. A path that ends in .gz is compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """Write JSON lines."""
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_cells(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """Write CSV without a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write CSV whose first line names the columns."""
    return write_cells(path, [list(rows[0]), *(list(row.values()) for row in rows)])


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write Parquet."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return path


def write_lines(path: Path, lines: Sequence[str], encoding: str = "utf-8") -> Path:
    """Write lines of text."""
    return write(path, "".join(f"{line}\n" for line in lines).encode(encoding))
