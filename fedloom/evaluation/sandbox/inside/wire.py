"""Plain values as lines of JSON between the answer's process and the tests'.

Only data passes: numbers, strings, bytes and the built-in containers, by value. Whatever else an answer returns stays
in its process, and the tests get a handle to it. So no object of an answer ever compares itself with what is expected.
"""

import json
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MOST_BYTES = 16 * 2**20
"""Longest line."""

Keep = Callable[[Any], Any]
"""Turns an object that is no plain value into what stands for it on the wire, or the other way round."""


class Unreadable(Exception):
    """The other process sent what is no message."""


class Ended(BaseException):
    """The other process has ended. Tests that expect any exception must not catch it."""


def encode(value: Any, keep: Keep) -> Any:
    """*value* as JSON. Subclasses of plain types go as the plain type. Raises RecursionError if it holds itself."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        number = int(value)
        return number if -(2**63) <= number < 2**63 else ["int", hex(number)]
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    for kind, tag in SEQUENCES.items():
        if isinstance(value, kind):
            return [tag, [encode(each, keep) for each in value]]
    if isinstance(value, dict):
        tag = "ordered" if isinstance(value, OrderedDict) else "dict"
        return [tag, [[encode(key, keep), encode(each, keep)] for key, each in dict.items(value)]]
    if isinstance(value, bytes | bytearray):
        return ["bytes" if isinstance(value, bytes) else "bytearray", value.hex()]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, range):
        return ["range", [encode(each, keep) for each in (value.start, value.stop, value.step)]]
    if isinstance(value, Decimal | Fraction):
        return ["decimal" if isinstance(value, Decimal) else "fraction", str(value)]
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return encode(value.item(), keep)
    return keep(value)


SEQUENCES: dict[type[Any], str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", deque: "deque"}

BUILDERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "decimal": Decimal,
    "fraction": Fraction,
}


def decode(data: Any, find: Keep) -> Any:
    """The value of what ``encode`` gave. Raises Unreadable."""
    try:
        return _decode(data, find)
    except (TypeError, ValueError, KeyError, ArithmeticError, RecursionError) as error:
        raise Unreadable(f"a value cannot be read: {type(error).__name__}") from error


def _decode(data: Any, find: Keep) -> Any:
    if not isinstance(data, list):
        return data
    tag, body = data
    if tag == "handle":
        return find(body)
    if tag in BUILDERS:
        return BUILDERS[tag](body)
    if tag in ("dict", "ordered"):
        pairs = [(_decode(key, find), _decode(each, find)) for key, each in body]
        return dict(pairs) if tag == "dict" else OrderedDict(pairs)
    parts = [_decode(each, find) for each in body]
    if tag == "complex":
        return complex(*parts)
    if tag == "range":
        return range(*parts)
    return {tag: kind for kind, tag in SEQUENCES.items()}[tag](parts)


class Channel:
    """Messages over a socket, each a list that JSON can say."""

    def __init__(self, descriptor: int) -> None:
        self._incoming = os.fdopen(os.dup(descriptor), "rb")
        self._outgoing = os.fdopen(descriptor, "wb")

    def send(self, message: list[Any]) -> None:
        """Raises Ended, and MemoryError for a message that is too long."""
        line = json.dumps(message).encode() + b"\n"
        if len(line) > MOST_BYTES:
            raise MemoryError(f"a value takes over {MOST_BYTES // 2**20} MiB")
        try:
            self._outgoing.write(line)
            self._outgoing.flush()
        except OSError as error:
            raise Ended from error

    def receive(self) -> list[Any]:
        """The next message. Raises Ended, Unreadable, and MemoryError for one that is too long."""
        try:
            line = self._incoming.readline(MOST_BYTES + 1)
        except OSError as error:
            raise Ended from error
        if len(line) > MOST_BYTES:
            raise MemoryError(f"a value takes over {MOST_BYTES // 2**20} MiB")
        if not line.endswith(b"\n"):
            raise Ended
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Unreadable("a message is no JSON") from error
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            raise Unreadable("a message is no list")
        return message
