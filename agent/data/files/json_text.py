"""Reads JSON strictly: a key that an object has twice is an error, and numbers remember their spelling."""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any, TextIO

from agent.data.files.file_record import BrokenRecord, FileRecord
from agent.data.files.lines import bounded_lines
from agent.data.files.numbers import SpelledNumber, parse_int
from shared.text.words import repeated


class _AmbiguousObject(dict[str, Any]):
    """An object that has a key twice, of which a dict keeps the last value."""

    repeated: str


class _StrictDecoder:
    """Decodes texts, and remembers whether any has an ambiguous object."""

    def __init__(self) -> None:
        self.is_ambiguous = False
        self._decoder = JSONDecoder(object_pairs_hook=self._object, parse_float=SpelledNumber, parse_int=parse_int)

    def decode(self, text: str) -> Any:
        """Decode a text. Raises ValueError and RecursionError."""
        return self._decoder.decode(text)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        self.is_ambiguous = True
        ambiguous = _AmbiguousObject(found)
        ambiguous.repeated = str(repeated(key for key, _ in pairs))
        return ambiguous


def json_lines(file: TextIO) -> Iterator[FileRecord]:
    """Yield the record of each line that is not blank."""
    decoder = _StrictDecoder()
    for number, line in enumerate(bounded_lines(file), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            record = decoder.decode(line)
        except (ValueError, RecursionError) as error:
            yield FileRecord(place, BrokenRecord(f" is not JSON ({_reason(error)})"))
            continue
        yield FileRecord(place, _checked(record, decoder))


def json_list(file: TextIO) -> Iterator[FileRecord]:
    """Yield the records of a file that is one list."""
    text = file.read()
    if not text.strip():
        return
    decoder = _StrictDecoder()
    try:
        records = decoder.decode(text)
    except JSONDecodeError as error:
        hint = "; a file with one object a line must be named .jsonl" if error.msg == "Extra data" else ""
        yield FileRecord("", BrokenRecord(f"line {error.lineno} is not JSON ({error.msg}){hint}"))
        return
    except (ValueError, RecursionError) as error:
        yield FileRecord("", BrokenRecord(f"the file is not JSON ({_reason(error)})"))
        return
    if not isinstance(records, list):
        yield FileRecord("", _no_list(records))
        return
    for number, record in enumerate(records, 1):
        yield FileRecord(f"row {number}", _checked(record, decoder))


def _checked(record: Any, decoder: _StrictDecoder) -> dict[str, Any] | BrokenRecord:
    if not isinstance(record, dict):
        return BrokenRecord(" is not a JSON object")
    repeated = _repeated_key(record) if decoder.is_ambiguous else None
    if repeated is None:
        return record
    return BrokenRecord(" has a key twice in one object; name it once", f": {repeated[:60]!r}")


def _repeated_key(value: Any) -> str | None:
    """A key that an object has twice, at any depth; None if there is none."""
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, _AmbiguousObject):
            return part.repeated
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return None


def _no_list(value: Any) -> BrokenRecord:
    """The error of a file that holds another value than a list. Records are often under one key of an object."""
    if not isinstance(value, dict):
        return BrokenRecord("the file is not a list of JSON objects")
    lists = [key for key, part in value.items() if isinstance(part, list)]
    private = f"; its key {lists[0][:60]!r} holds a list" if lists else ""
    return BrokenRecord("the file is one JSON object, not a list of them; write the records as [{…}, {…}]", private)


def _reason(error: Exception) -> str:
    if isinstance(error, JSONDecodeError):
        return error.msg
    return "too deeply nested" if isinstance(error, RecursionError) else "a number with too many digits"


def to_json(value: Any) -> str:
    """Return a record as JSON in ASCII, of which a reader accepts and refuses the same columns as of the record.

    Numbers are spelled as in the owner's file. A date, bytes or another value of a table that JSON lacks becomes an
    object, which is refused in a column that is read, as the value itself is. Half a character stays one.
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(str(key))}: {to_json(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_json, value))}]"
    if isinstance(value, SpelledNumber):
        return value.spelling
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    return json.dumps(value, default=lambda other: {type(other).__name__: str(other)})
