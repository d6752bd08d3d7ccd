"""JSON as publishers have it: one value, or one a line. What breaks off is said with its line."""

import json
import re
from collections.abc import Iterator
from typing import Any

from fedloom.evaluation.tasks.base import BadData

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def values_of_lines(text: str, shown: str) -> Iterator[Any]:
    """The value of each line that is not blank. Raises BadData."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _value(line, f"{shown}: line {number}")


def value_or_lines(text: str, shown: str) -> Any:
    """The value of a text, or the list of its lines' values where the first line is a value alone. Raises BadData."""
    begin = text.lstrip().partition("\n")[0]
    try:
        json.loads(begin)
    except (ValueError, RecursionError):
        return _value(text, shown)
    rest = text.lstrip()[len(begin) :]
    return list(values_of_lines(text, shown)) if rest.strip() else _value(text, shown)


def _value(text: str, place: str) -> Any:
    """One value. The outermost object names each of its keys once: they are ids in some sets."""
    last: list[tuple[str, Any]] = []

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        last[:] = pairs
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=as_dict)
    except RecursionError:
        raise BadData(f"{place} is nested too deeply") from None
    except ValueError as error:
        raise BadData(f"{_line(place, error)} is not JSON; is the file truncated?") from None
    if isinstance(value, dict) and len(value) < len(last):
        raise BadData(f"{place}: one object has a key more than once")
    _check_text(text, value, place)
    return value


def _line(place: str, error: ValueError) -> str:
    """Where a text breaks off: the line in it, if it has several."""
    line = getattr(error, "lineno", 1)
    return f"{place}: line {line}" if ": line " not in place else place


def _check_text(text: str, value: Any, place: str) -> None:
    """JSON can name halves of a character, which no encoding and no tokenizer takes."""
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadData(f"{place} has half of a character (a lone surrogate)") from None
