"""One record while it is parsed: its values as text, which of its columns are read, and what is noticed."""

import codecs
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from agent.data.checks.notices import Note
from agent.data.files.numbers import spelling_of
from agent.data.source import DataSource, file_type
from shared.text.unsafe import shorten

_MAX_LISTED = 20
_C1_CONTROLS = re.compile("[\x80-\x9f]")
_SYSTEM_COLUMNS = ("system", "system_prompt")
_SEPARATORS = (",", ";", "\t", "|")
_OTHER_SPELLING = "; it has one of that name with other capitals or with blanks around it"
_ONE_COLUMN = '; the header is one column: set the separator of the cells, such as separator = ";"'
_NO_HEADER = '; if the first line is a record, name the columns instead, such as columns = ["prompt", "completion"]'


class RecordError(Exception):
    """A record that cannot be parsed. The text continues its place, such as "line 3".

    private: the rest of the message, which stays on this machine: it lists column names, which are content if a table
    lacks its header.
    """

    def __init__(self, text: str, private: str = "") -> None:
        super().__init__(text)
        self.private = private


class SkippedRecord(Exception):
    """A valid record without anything to train on. The text is the reason, and continues "a row with"."""


class OpenRecord:
    """A record while it is parsed by the settings of *source*.

    Args:
        record: its values by column.
        source: the settings.
        is_of_table: whether it is a record of a CSV or TSV.

    Attributes:
        read: the columns that were read.
        is_conversation: whether messages were read.
        notes: what is noticed, once each.
    """

    def __init__(self, record: Mapping[str, Any], source: DataSource, *, is_of_table: bool = False) -> None:
        self.record = record
        self.source = source
        self.is_of_table = is_of_table
        self.read: set[str] = set()
        self.is_conversation = False
        self._notes: dict[Note, None] = {}

    @property
    def notes(self) -> tuple[Note, ...]:
        return tuple(self._notes)

    @property
    def unread(self) -> list[str]:
        """The columns with content that were not read."""
        return [column for column, value in self.record.items() if column not in self.read and has_content(value)]

    def note(self, message: str, private: str = "") -> None:
        """Notice something. The message continues the record's place."""
        self._notes[Note(message, private)] = None

    def value(self, column: str, role: str) -> Any:
        """Return the value of a column. role: what the settings use it for. Raises RecordError if it is missing."""
        if column not in self.record:
            error = f" has no column {column!r} ({role}){self._missing_hint(column)}"
            raise RecordError(error, f"; it has {list_columns(self.record)}")
        self.read.add(column)
        return self.record[column]

    def _missing_hint(self, column: str) -> str:
        """Why a record may lack a column."""
        if any(str(name).strip().lower() == column.strip().lower() for name in self.record):
            return _OTHER_SPELLING
        if not self.is_of_table or self.source.columns is not None:
            return ""
        only = next(iter(self.record), "") if len(self.record) == 1 else ""
        return _ONE_COLUMN if any(separator in only for separator in _SEPARATORS) else _NO_HEADER

    def optional_text(self, column: str | None, role: str) -> str:
        """Return the text of a column that records may lack or leave empty."""
        if column is None or column not in self.record:
            return ""
        return self.text(self.value(column, role), f": the column {column!r} ({role})")

    def text(self, value: object, where: str) -> str:
        """Return a value as text; null is empty. where: the value's place in the record. Raises RecordError."""
        if value is None:
            return ""
        if isinstance(value, bool | int | float | Decimal):
            return self._number(value, where)
        if not isinstance(value, str):
            raise RecordError(f"{where} holds {type_name(value)}, not text")
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON can escape a lone surrogate
            raise RecordError(f"{where} holds half a character (a lone surrogate)") from None
        self._note_encoding(value)
        return value

    def _note_encoding(self, text: str) -> None:
        """Notice text that was probably read in a wrong encoding."""
        if "\0" in text:
            self.note(" has NUL characters: the file may be UTF-16; save it as UTF-8, or set its encoding")
        if text.isascii():
            return
        if self._is_misread_utf8(text):
            self.note(f' has text that is UTF-8, which encoding = "{self.source.encoding}" misreads; set "utf-8"')
        elif _C1_CONTROLS.search(text):
            self.note(f" has control characters (U+0080 to U+009F): {self._wrong_encoding()}")

    def _is_misread_utf8(self, text: str) -> bool:
        if self._has_own_encoding or not is_single_byte(self.source.encoding):
            return False
        try:
            text.encode(self.source.encoding).decode()
        except UnicodeError:
            return False
        return True

    @property
    def _has_own_encoding(self) -> bool:
        """Whether the form of the data, and no setting, says how its text is encoded."""
        path = self.source.path
        return path is None or file_type(path) in (".jsonl", ".json", ".parquet")

    def _wrong_encoding(self) -> str:
        """Why a text may have control characters: cp1252 has quotes, dashes and the euro sign in their place."""
        if self._has_own_encoding or codecs.lookup(self.source.encoding).name != "iso8859-1":
            return "its text was read in a wrong encoding before; correct it where it was written"
        return 'the file may be cp1252; set encoding = "cp1252"'

    def _number(self, value: float | Decimal, where: str) -> str:
        if isinstance(value, float | Decimal) and not math.isfinite(value):
            raise RecordError(f"{where} holds a number that is not finite")
        if not self.source.numbers:
            raise RecordError(f"{where} holds {type_name(value)}, not text; numbers = true reads it as text")
        self.note(" has a number, or true or false, which is read as text")
        return spelling_of(value)

    @property
    def system(self) -> tuple[str, str]:
        """The system prompt's column, and its text. Both are empty if there is none."""
        column = self.source.system
        if column is None:
            named = {self.source.messages, self.source.prompt, self.source.input, self.source.completion}
            column = next((name for name in _SYSTEM_COLUMNS if name not in named and self._has_text(name)), None)
        return (column, text) if column and (text := self.optional_text(column, "system")) else ("", "")

    def _has_text(self, column: str) -> bool:
        value = self.record.get(column)
        return isinstance(value, str) and value != ""


@lru_cache
def is_single_byte(encoding: str) -> bool:
    """Return whether an encoding has one byte a character, as latin-1 and cp1252 have."""
    text = bytes(range(256)).decode(encoding, errors="replace")
    return len(text) == 256 and text.count("\ufffd") < 64  # of UTF-8, all bytes beyond ASCII are replaced


def has_content(value: object) -> bool:
    """Return whether a value that is not read would be missed: null, false and all that is empty would not."""
    parts = [value]
    while parts:  # no recursion: a record may be nested as deep as Python's stack allows
        part = parts.pop()
        if isinstance(part, dict):
            parts += part.values()
        elif isinstance(part, list | tuple):
            parts += part
        elif isinstance(part, str):
            if part.strip() not in ("", "[]", "{}", "null"):
                return True
        elif part is not None and part is not False:
            return True
    return False


def type_name(value: object) -> str:
    """Return what a value is, in words."""
    names = {dict: "an object", list: "a list", bool: "true or false", str: "text", type(None): "null"}
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return "a number"
    return names.get(type(value), f"a value of the type {type(value).__name__}")


def list_columns(columns: Mapping[str, Any]) -> str:
    """Return the names of the first columns for a message, shortened."""
    return ", ".join(repr(shorten(str(column), 60)) for column in list(columns)[:_MAX_LISTED]) or "none"
