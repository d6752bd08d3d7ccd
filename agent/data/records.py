"""Reads the raw records of the owner's data: text files here, tables and data sets in ``agent.data.tables``.

Error messages are sent to the coordinator. They contain line numbers, never the content of a row.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TextIO

from agent.data import tables
from agent.data.files.file_record import BrokenRecord, FileRecord, Record
from agent.data.files.folder import list_folder
from agent.data.files.json_text import json_lines, json_list
from agent.data.files.text_tables import read_table
from agent.data.notices import Note, Occurrences
from agent.data.source import TABLE_SEPARATORS, DataSource, file_type
from agent.errors import TaskFailed
from shared.text_file import MARK_BYTES, marked_encoding
from shared.wire.leases import FailureKind

_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def read_records(source: DataSource, notices: Occurrences) -> Iterator[tuple[str, Record]]:
    """Yield each record with its place, such as "line 3". Raises TaskFailed (data) at the first broken record.

    The message may quote names from the file, so it is for commands of the owner, not for tasks of a coordinator.

    notices: receives what the files' form says against them, such as files that are not read.
    """
    for found in scan_records(source):
        for note in found.notes:
            notices.add(source.label, found.where, note.message, note.private, apart=True)
        if isinstance(found.content, BrokenRecord):
            refuse(source, f"{found.where}{found.error}{found.content.private}")
        if found.content is not None:
            yield found.where, found.content


def scan_records(source: DataSource) -> Iterator[FileRecord]:
    """Yield each record, valid or broken, with its place. Raises TaskFailed (data) if the rest cannot be read."""
    if source.path is None or tables.is_saved(source.path):
        yield from tables.dataset(source)
    elif source.path.is_dir():
        yield from _scan_folder(source, source.path)
    else:
        yield from _scan_file(source, source.path)


def _scan_folder(source: DataSource, folder: Path) -> Iterator[FileRecord]:
    """Yield the records of each file, with its name in their places. A file that cannot be read is an error."""
    try:
        listing = list_folder(folder, source.split, has_separator=source.separator is not None)
    except OSError as error:
        refuse(source, f"the folder cannot be read ({error.strerror or type(error).__name__})")
    yield from (FileRecord("", problem) for problem in listing.problems)
    if listing.notes:
        yield FileRecord("", None, tuple(listing.notes))
    for name in listing.files:
        part = source.at(folder / name)
        is_empty = True
        try:
            for found in _scan_file(part, folder / name):
                is_empty = False
                yield replace(found, file=name)
        except TaskFailed as error:
            yield FileRecord("", BrokenRecord(str(error).removeprefix(f"{part.label}: ")), file=name)
        else:
            if is_empty:
                yield FileRecord("", None, (Note(": the file has no rows"),), file=name)


def _scan_file(source: DataSource, path: Path) -> Iterator[FileRecord]:
    suffix = file_type(path)
    encoding = "utf-8" if suffix in _UTF8 else codecs.lookup(source.encoding).name
    try:
        if suffix == ".parquet":
            yield from tables.parquet(path)
            return
        read = _reader(suffix, source)
        if read is None:
            known = ", ".join([*_READERS, *TABLE_SEPARATORS, ".parquet"])
            refuse(source, f"unknown file type; known are {known}, and text with a separator")
        with _OPENERS.get(path.suffix.lower(), _open_plain)(path) as file:
            encoding = marked_encoding(file.read(MARK_BYTES)) or encoding
            file.seek(0)
            with io.TextIOWrapper(file, encoding=encoding, newline=_NEWLINES.get(suffix)) as text:
                yield from read(text)
    except FileNotFoundError:
        refuse(source, "there is no such file; correct its path in agent.toml")
    except UnicodeError:
        other = "latin-1" if encoding == "cp1252" else "cp1252"
        hint = "" if suffix in _UTF8 else f'; set its encoding in agent.toml, such as encoding = "{other}"'
        refuse(source, f"the file is not {encoding.removesuffix('-sig').upper()} text{hint}")
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile):
        refuse(source, "the file cannot be decompressed")
    except OSError as error:
        refuse(source, f"the file cannot be read ({error.strerror or type(error).__name__})")


def refuse(source: DataSource, message: str) -> NoReturn:
    """Raise TaskFailed (data) with the file's name."""
    raise TaskFailed(FailureKind.DATA, f"{source.label}: {message}")


def _open_plain(path: Path) -> Any:
    return path.open("rb")


def _reader(suffix: str, source: DataSource) -> Callable[[TextIO], Iterator[FileRecord]] | None:
    """The function that reads a text file of a type; None if the type is unknown."""
    if suffix in TABLE_SEPARATORS:
        return lambda file: read_table(file, source, TABLE_SEPARATORS[suffix])
    if suffix in _READERS:
        return _READERS[suffix]
    if source.separator is None:
        return None
    if not suffix and (source.header is not None or source.columns is not None or not source.quotes):
        refuse(source, "header, columns and quotes are settings of a .csv or .tsv: remove them, or rename the file")
    separator = source.separator
    return lambda file: _separated(file, separator)


def _separated(file: TextIO, separator: str) -> Iterator[FileRecord]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        prompt, has_separator, completion = line.rstrip("\n").rpartition(separator)
        if has_separator:
            yield FileRecord(f"line {number}", {"prompt": prompt, "completion": completion})
        else:  # a prompt without a completion, which is skipped later
            yield FileRecord(f"line {number}", {"prompt": completion, "completion": ""}, (_NO_SEPARATOR,))


_NO_SEPARATOR = Note(" has no separator, and so no completion")
_READERS: dict[str, Callable[[TextIO], Iterator[FileRecord]]] = {".jsonl": json_lines, ".json": json_list}
_UTF8 = (".jsonl", ".json")
_NEWLINES = {".jsonl": "\n", ".json": "\n", ".csv": "", ".tsv": ""}
"""The ``newline`` argument of ``open``: cells and JSON strings may contain other line ends."""
