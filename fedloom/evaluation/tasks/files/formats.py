"""Bytes of a file to its content. Its name tells the layout; Parquet and gzip are told by their first bytes."""

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from fedloom.evaluation.tasks.base import BadData
from fedloom.evaluation.tasks.files.json_text import value_or_lines, values_of_lines

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Args:
        path: where it was found, below the folder of data.
        layout: ``cells`` of CSV are lists of texts; rows of ``parquet`` are dicts; ``json`` is any value.
        value: the content itself.
    """

    path: str
    layout: Literal["cells", "json", "parquet"]
    value: Any

    def place(self, index: int) -> str:
        """The row of an index, in words."""
        return f"{self.path}: row {index + 1}"


def content_of(raw: bytes, path: str) -> Content:
    """The content of a file of rows. Raises BadData, whose text never quotes the file."""
    raw = _decompressed(raw, path)
    if raw[: len(_PARQUET)] == _PARQUET or path.endswith(".parquet"):
        return Content(path, "parquet", _parquet(raw, path))
    text = _decoded(raw, path)
    name = path.removesuffix(".gz")
    if name.endswith(".csv"):
        return Content(path, "cells", _cells(text, path))
    if name.endswith(".jsonl") and text.lstrip()[:1] != "[":
        return Content(path, "json", list(values_of_lines(text, path)))
    return Content(path, "json", value_or_lines(text, path) if text.strip() else [])


def text_of(raw: bytes, path: str, or_else: str | None = None) -> str:
    """A text. or_else: the encoding of one that is not UTF-8. Raises BadData."""
    return _decoded(_decompressed(raw, path), path, or_else)


def _decoded(raw: bytes, path: str, or_else: str | None = None) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        if or_else is None:
            raise BadData(f"{path} is not UTF-8") from None
        return raw.decode(or_else)


def _decompressed(raw: bytes, path: str) -> bytes:
    if raw[: len(_GZIP)] != _GZIP and not path.endswith(".gz"):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error):
        raise BadData(f"{path} cannot be decompressed; is the file truncated?") from None


def _cells(text: str, path: str) -> list[list[str]]:
    """All cells as texts, whatever they say: "None" and "NA" are answers."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return [row for row in reader if row]
    except csv.Error as error:
        raise BadData(f"{path}: line {reader.line_num}: {error}; is the file truncated?") from None


def _parquet(raw: bytes, path: str) -> list[Any]:
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise BadData(f"{path}: reading Parquet needs pyarrow; run: pip install 'fedloom[eval]'") from None
    try:
        rows: list[Any] = parquet.read_table(pyarrow.BufferReader(raw)).to_pylist()
    except (pyarrow.ArrowException, ArithmeticError, LookupError, OSError, ValueError) as error:
        raise BadData(f"{path} cannot be read as Parquet ({type(error).__name__}); is the file truncated?") from None
    return rows
