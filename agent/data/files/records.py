"""Reads the raw records of the owner's data: text files here, tables and data sets in ``agent.data.files.tables``.

Error messages are sent to the coordinator. They contain line numbers, never the content of a row, and no file's name.
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

from agent.data.checks.notices import Note, Occurrences
from agent.data.files import tables
from agent.data.files.file_record import BrokenRecord, FileRecord, Record
from agent.data.files.folder import list_folder
from agent.data.files.json_text import json_lines, json_list
from agent.data.files.lines import MAX_CHARACTERS, RecordTooLong, bounded_lines
from agent.data.files.saved import is_saved
from agent.data.files.text_tables import read_table
from agent.data.local_names import public
from agent.data.source import TABLE_SEPARATORS, DataSource, file_type
from agent.errors import TaskFailed
from shared.text.text_file import MARK_BYTES, marked_encoding
from shared.wire.tasks.leases import FailureKind

_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def read_records(source: DataSource, notices: Occurrences) -> Iterator[tuple[str, Record]]:
    """Yield each record with its place, such as "line 3". Raises TaskFailed (data) at the first broken record.

    notices: receives what the files' form says against them, such as files that are not read.
    """
    for found in scan_records(source):
        for note in found.notes:
            notices.add(source.label, found.where, note.message, note.private, apart=True)
        if isinstance(found.content, BrokenRecord):
            refuse(source, found.error, found.where, found.content.private)
        if found.content is not None:
            yield found.where, found.content


def scan_records(source: DataSource) -> Iterator[FileRecord]:
    """Yield each record, valid or broken, with its place. Raises TaskFailed (data) if the rest cannot be read."""
    if source.path is None or is_saved(source.path):
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
    for number, name in enumerate(listing.files, 1):
        part = source.at(folder / name)
        is_empty = True
        try:
            for found in _scan_file(part, folder / name):
                is_empty = False
                yield replace(found, file=name, number=number)
        except TaskFailed as error:
            message = error.failure.message.removeprefix(f"{public(part.label)}: ")
            yield FileRecord("", BrokenRecord(message), file=name, number=number)
        else:
            if is_empty:
                yield FileRecord("", None, (Note(": the file has no rows"),), file=name, number=number)


def _scan_file(source: DataSource, path: Path) -> Iterator[FileRecord]:
    if path.exists() and not path.is_file():
        refuse(source, "a device or a pipe, which cannot be read again; name a file or a folder")
    suffix = file_type(path)
    encoding = "utf-8" if suffix in _UTF8 else codecs.lookup(source.encoding).name
    try:
        if suffix == ".parquet":
            yield from tables.parquet(path, source.label)
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
    except RecordTooLong:
        refuse(
            source, f"a line has more than {MAX_CHARACTERS:,} characters; rows are shorter, so is it the right file?"
        )
    except UnicodeError:
        other = "latin-1" if encoding == "cp1252" else "cp1252"
        hint = "" if suffix in _UTF8 else f'; set its encoding in agent.toml, such as encoding = "{other}"'
        refuse(source, f"the file is not {encoding.removesuffix('-sig').upper()} text{hint}")
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile):
        refuse(source, "the file cannot be decompressed")
    except OSError as error:
        refuse(source, f"the file cannot be read ({error.strerror or type(error).__name__})")


def refuse(source: DataSource, message: str, place: str = "", private: str = "") -> NoReturn:
    """Raise TaskFailed (data): for the owner with the names of files, for all others with those of agent.toml.

    Args:
        source: the data.
        message: continues the place.
        place: where it is, such as "line 3"; empty if it concerns all of the data.
        private: the rest of the message for the owner, which may quote names from the files.
    """
    shown = f"{source.label}: {place}{message}{private}"
    raise TaskFailed(FailureKind.DATA, f"{public(source.label)}: {public(place)}{message}", shown)


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
    for number, line in enumerate(bounded_lines(file), 1):
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
