"""Reads the raw records of the owner's data: text files here, tables and data sets in ``agent.data.tables``.

Error messages are sent to the coordinator. They contain line numbers, never the content of a row.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from agent.data import tables
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.wire.leases import FailureKind

Record = Mapping[str, Any]


@dataclass(frozen=True)
class BrokenRecord:
    """A part of a file that is not a valid record. The message continues its place: " is not JSON"."""

    message: str


def read_records(source: DataSource) -> Iterator[tuple[str, Record]]:
    """Yield each record with its place, such as "line 3". Raises TaskFailed (data) at the first broken record."""
    for place, record in scan_records(source):
        if isinstance(record, BrokenRecord):
            refuse(source, f"{place}{record.message}")
        yield place, record


def scan_records(source: DataSource) -> Iterator[tuple[str, Record | BrokenRecord]]:
    """Yield each record, valid or broken, with its place. Raises TaskFailed (data) if the rest cannot be read."""
    path = source.path
    if path is None or path.is_dir():
        yield from tables.dataset(source)
        return
    opener, suffix = _kind(path)
    encoding = "utf-8" if suffix in _UTF8 else codecs.lookup(source.encoding).name
    try:
        if suffix == ".parquet":
            yield from tables.parquet(path)
            return
        reader = _READERS.get(suffix) or (_separated if source.separator is not None else None)
        if reader is None:
            known = ", ".join([*_READERS, ".parquet"])
            refuse(source, f"unknown file type; known are {known}, and text with a separator")
        # utf-8-sig drops a byte order mark, which is not part of the first row
        encoding = "utf-8-sig" if encoding == "utf-8" else encoding
        with opener(path) as file, io.TextIOWrapper(file, encoding=encoding, newline=_NEWLINES.get(suffix)) as text:
            yield from reader(text, source)
    except FileNotFoundError:
        refuse(source, "there is no such file; correct its path in agent.toml")
    except UnicodeError:
        hint = "" if suffix in _UTF8 else '; set its encoding in agent.toml, such as encoding = "latin-1"'
        refuse(source, f"the file is not {encoding.removesuffix('-sig').upper()} text{hint}")
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile):
        refuse(source, "the file cannot be decompressed")
    except OSError as error:
        refuse(source, f"the file cannot be read ({error.strerror or type(error).__name__})")


def refuse(source: DataSource, message: str) -> NoReturn:
    """Raise TaskFailed (data) with the file's name."""
    raise TaskFailed(FailureKind.DATA, f"{source.label}: {message}")


def _kind(path: Path) -> tuple[Callable[[Path], Any], str]:
    """Return the function that opens a file, decompressed, and the suffix that names its type."""
    openers: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    suffix = path.suffix.lower()
    if suffix in openers:
        return openers[suffix], Path(path.stem).suffix.lower()
    return lambda plain: plain.open("rb"), suffix


def _json_lines(file: TextIO, _source: DataSource) -> Iterator[tuple[str, Record | BrokenRecord]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield place, BrokenRecord(f" is not JSON ({_json_error(error)})")
            continue
        yield place, record if isinstance(record, dict) else BrokenRecord(" is not a JSON object")


def _json_list(file: TextIO, source: DataSource) -> Iterator[tuple[str, Record | BrokenRecord]]:
    text = file.read()
    if not text.strip():
        return
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; a file with one object a line must be named .jsonl" if error.msg == "Extra data" else ""
        refuse(source, f"line {error.lineno} is not JSON ({error.msg}){hint}")
    except (ValueError, RecursionError) as error:
        refuse(source, f"the file is not JSON ({_json_error(error)})")
    if not isinstance(records, list):
        refuse(source, "the file is not a list of JSON objects")
    for number, record in enumerate(records, 1):
        place = f"row {number}"
        yield place, record if isinstance(record, dict) else BrokenRecord(" is not a JSON object")


def _json_error(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "too deeply nested" if isinstance(error, RecursionError) else "a number with too many digits"


def _csv(file: TextIO, source: DataSource, separator: str = ",") -> Iterator[tuple[str, Record | BrokenRecord]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default, 128 KiB, is too small for documents
    try:
        reader = csv.reader(file, delimiter=source.separator or separator)
    except TypeError:
        refuse(source, "the separator of a table must be one character; correct it in agent.toml")
    try:
        header = next(reader, None)
        if header is None:
            return
        for cells in reader:
            if not cells:
                continue
            place = f"the row that ends on line {reader.line_num}"
            if len(cells) == len(header):
                yield place, dict(zip(header, cells, strict=True))
            else:
                yield place, BrokenRecord(f" has {len(cells)} cells, but the header has {len(header)}")
    except csv.Error as error:
        refuse(source, f"line {reader.line_num} is not CSV ({error})")


def _tsv(file: TextIO, source: DataSource) -> Iterator[tuple[str, Record | BrokenRecord]]:
    return _csv(file, source, separator="\t")


def _separated(file: TextIO, source: DataSource) -> Iterator[tuple[str, Record | BrokenRecord]]:
    separator = cast("str", source.separator)
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        prompt, has_separator, completion = line.rstrip("\n").rpartition(separator)
        # a line without a separator is a prompt without a completion, which is skipped later
        yield (
            f"line {number}",
            {"prompt": prompt, "completion": completion} if has_separator else {"prompt": line, "completion": ""},
        )


_READERS: dict[str, Callable[[TextIO, DataSource], Iterator[tuple[str, Record | BrokenRecord]]]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".csv": _csv,
    ".tsv": _tsv,
}
_UTF8 = (".jsonl", ".json")
_NEWLINES = {".jsonl": "\n", ".json": "\n", ".csv": "", ".tsv": ""}
"""The ``newline`` argument of ``open``: cells and JSON strings may contain other line ends."""
