"""Finds the line of each table, key and value of a TOML file, which tomllib does not tell."""

import re
import tomllib
from bisect import bisect_right

Location = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANKS = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?"{3,5}'  # a string of several lines may end in two quotes of its own
    r"|'''[\s\S]*?'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")


def index_lines(text: str) -> dict[Location, int]:
    """Return the line, from 1, of each table, key and element of an array. *text* must be valid TOML."""
    return _Index(text).lines


class _Index:
    """Reads a file from its beginning to its end. The text is valid, so only its structure is looked at."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._sizes: dict[Location, int] = {}
        self.lines: dict[Location, int] = {}
        table: Location = ()
        self._skip(_SPACE)
        while self._position < len(text):
            if self._next("[["):
                table = self._element(self._dotted_key((), "[["))
            elif self._next("["):
                table = self._dotted_key((), "[")
            else:
                self._pair(table)
            self._skip(_SPACE)

    def _next(self, start: str) -> bool:
        return self._text.startswith(start, self._position)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        assert match is not None
        self._position = match.end()
        return match.group()

    @property
    def _line(self) -> int:
        return bisect_right(self._starts, self._position)

    def _key(self) -> str:
        if not (self._next('"') or self._next("'")):
            return self._skip(_BARE_KEY)
        return str(tomllib.loads(f"key = {self._skip(_STRING)}")["key"])

    def _dotted_key(self, prefix: Location, brackets: str = "") -> Location:
        """Read a key, and the brackets around that of a table. Returns its location."""
        self._position += len(brackets)
        location = prefix
        while True:
            self._skip(_BLANKS)
            line = self._line
            location = (*self._inside(location), self._key())
            self.lines.setdefault(location, line)
            self._skip(_BLANKS)
            if not self._next("."):
                break
            self._position += 1
        self._position += len(brackets)
        return self._inside(location) if brackets == "[" else location

    def _inside(self, location: Location) -> Location:
        """The location that a key below *location* belongs to: of an array of tables, the last one."""
        size = self._sizes.get(location)
        return location if size is None else (*location, size - 1)

    def _element(self, array: Location) -> Location:
        """Begin the next table of an array of tables."""
        number = self._sizes.get(array, 0)
        self._sizes[array] = number + 1
        self.lines[*array, number] = self._line
        return (*array, number)

    def _pair(self, table: Location) -> None:
        location = self._dotted_key(table)
        self._position += 1  # the equals sign
        self._skip(_BLANKS)
        self._value(location)

    def _value(self, location: Location) -> None:
        if self._next("["):
            self._array(location)
        elif self._next("{"):
            self._inline_table(location)
        elif self._next('"') or self._next("'"):
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _array(self, location: Location) -> None:
        self._position += 1
        self._skip(_SPACE)
        number = 0
        while not self._next("]"):
            self.lines[*location, number] = self._line
            self._value((*location, number))
            number += 1
            self._skip(_SPACE)
            if self._next(","):
                self._position += 1
                self._skip(_SPACE)
        self._position += 1

    def _inline_table(self, location: Location) -> None:
        self._position += 1
        self._skip(_SPACE)
        while not self._next("}"):
            self._pair(location)
            self._skip(_SPACE)
            if self._next(","):
                self._position += 1
                self._skip(_SPACE)
        self._position += 1
