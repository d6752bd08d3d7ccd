"""The raw records of the owner's data: text files here, tables and data sets by ``agent.data.tables``.

Messages say line numbers, never what stands in a row: they leave the building.
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
from agent.errors import TaskFailed
from agent.settings import DataSource
from shared.wire.leases import FailureKind

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Broken:
    """A part of a file that is no record. The message goes on after its place: " is not JSON"."""

    message: str


def read_records(source: DataSource) -> Iterator[tuple[str, Record]]:
    """Each record with its place, such as "line 3". Raises TaskFailed (data) on reaching what is wrong."""
    for place, record in scan_records(source):
        if isinstance(record, Broken):
            refuse(source, f"{place}{record.message}")
        yield place, record


def scan_records(source: DataSource) -> Iterator[tuple[str, Record | Broken]]:
    """Each record with its place, and what is none. Raises TaskFailed (data) where nothing more can be read."""
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
            refuse(source, f"unknown kind of file; known are {known}, and text with a separator")
        # a byte order mark is no part of the first row
        encoding = "utf-8-sig" if encoding == "utf-8" else encoding
        with opener(path) as file, io.TextIOWrapper(file, encoding=encoding, newline=_NEWLINES.get(suffix)) as text:
            yield from reader(text, source)
    except FileNotFoundError:
        refuse(source, "there is no such file; correct its path in agent.toml")
    except UnicodeError:
        hint = "" if suffix in _UTF8 else '; say its encoding in agent.toml, such as encoding = "latin-1"'
        refuse(source, f"the file is not {encoding.removesuffix('-sig').upper()} text{hint}")
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile):
        refuse(source, "the file cannot be decompressed")
    except OSError as error:
        refuse(source, f"the file cannot be read ({error.strerror or type(error).__name__})")


def refuse(source: DataSource, message: str) -> NoReturn:
    """Raise TaskFailed (data) with the file's name."""
    raise TaskFailed(FailureKind.DATA, f"{source.label}: {message}")


def _kind(path: Path) -> tuple[Callable[[Path], Any], str]:
    """How a file is opened, and the suffix that says what is in it."""
    openers: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    suffix = path.suffix.lower()
    if suffix in openers:
        return openers[suffix], Path(path.stem).suffix.lower()
    return lambda plain: plain.open("rb"), suffix


def _json_lines(file: TextIO, _source: DataSource) -> Iterator[tuple[str, Record | Broken]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield place, Broken(f" is not JSON ({_not_json(error)})")
            continue
        yield place, record if isinstance(record, dict) else Broken(" is not a JSON object")


def _json_list(file: TextIO, source: DataSource) -> Iterator[tuple[str, Record | Broken]]:
    text = file.read()
    if not text.strip():
        return
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; a file of one object a line is named .jsonl" if error.msg == "Extra data" else ""
        refuse(source, f"line {error.lineno} is not JSON ({error.msg}){hint}")
    except (ValueError, RecursionError) as error:
        refuse(source, f"the file is not JSON ({_not_json(error)})")
    if not isinstance(records, list):
        refuse(source, "the file is not a list of JSON objects")
    for number, record in enumerate(records, 1):
        place = f"row {number}"
        yield place, record if isinstance(record, dict) else Broken(" is not a JSON object")


def _not_json(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "too deeply nested" if isinstance(error, RecursionError) else "a number of too many digits"


def _csv(file: TextIO, source: DataSource, between: str = ",") -> Iterator[tuple[str, Record | Broken]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # its default, 128 KiB, is short for a document
    try:
        reader = csv.reader(file, delimiter=source.separator or between)
    except TypeError:
        refuse(source, "the separator of cells is one character; correct it in agent.toml")
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
                yield place, Broken(f" has {len(cells)} cells, the header {len(header)}")
    except csv.Error as error:
        refuse(source, f"line {reader.line_num} is not CSV ({error})")


def _tsv(file: TextIO, source: DataSource) -> Iterator[tuple[str, Record | Broken]]:
    return _csv(file, source, between="\t")


def _separated(file: TextIO, source: DataSource) -> Iterator[tuple[str, Record | Broken]]:
    separator = cast("str", source.separator)
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        prompt, found, completion = line.rstrip("\n").rpartition(separator)
        # a line without a separator is left out, as a prompt without a completion is
        yield (
            f"line {number}",
            {"prompt": prompt, "completion": completion} if found else {"prompt": line, "completion": ""},
        )


_READERS: dict[str, Callable[[TextIO, DataSource], Iterator[tuple[str, Record | Broken]]]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".csv": _csv,
    ".tsv": _tsv,
}
_UTF8 = (".jsonl", ".json")
_NEWLINES = {".jsonl": "\n", ".json": "\n", ".csv": "", ".tsv": ""}
"""What ends a line, as ``open`` takes it: text may hold other ends of lines."""
