"""Text for terminals. What other parties wrote is data there: it sets no colour, moves no cursor and turns no line."""

import json
import re
from typing import Any

from shared.text.unsafe import UNSAFE, escape_unsafe, shorten

_KEPT = "\t\n"
_INVISIBLE = (
    # format characters, such as joiners, marks of direction, tags and byte-order marks
    *(0x00AD, 0x061C, 0x06DD, 0x070F, 0x08E2, 0x180E, 0xFEFF, 0x110BD, 0x110CD, 0xE0001),
    *range(0x0600, 0x0606),
    *range(0x0890, 0x0892),
    *range(0x200B, 0x2010),
    *range(0x2060, 0x2070),
    *range(0xFFF9, 0xFFFC),
    *range(0x13430, 0x13440),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    # others that are drawn as nothing: fillers, selectors of variants, and what is reserved for such
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xFFF0, 0xFFF9),
    *range(0xE0000, 0xE1000),
)
"""Characters that are seen as nothing, or as what others do to the text; a text may hold them, on a terminal they are
shown: two texts that look the same are the same."""
_MARKS = {code: f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}" for code in _INVISIBLE}
_ESCAPES_IN_JSON = {code: json.dumps(chr(code))[1:-1] for code in (*UNSAFE, *_INVISIBLE) if chr(code) not in _KEPT}
_PLAIN_WORD = re.compile(r"[A-Za-z0-9._:/@-]+")


def visible(text: str) -> str:
    """Text with control characters and invisible ones escaped, except tabs and ends of lines."""
    if text.isascii() and text.isprintable():
        return text
    return escape_unsafe(text, keep=_KEPT).translate(_MARKS)


def visible_line(text: str) -> str:
    """Text that stays one line: what ``visible`` escapes, and ends of lines."""
    return visible(text).replace("\n", "\\n")


def visible_json(text: str) -> str:
    """A JSON document with the same characters escaped in its strings, as JSON escapes them."""
    return text.translate(_ESCAPES_IN_JSON)


def quoted(text: str) -> str:
    """Another party's text as a part of a sentence: in quotes, unless it is one plain word. So it ends where it ends,
    and says nothing in the sentence's name."""
    return text if _PLAIN_WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def quoted_values(values: dict[str, Any], max_values: int = 10, max_chars: int = 60) -> str:
    """Another party's named values, as in JSON. Long ones are cut, and many are counted.

    Args:
        values: what JSON can hold.
        max_values: most that are shown.
        max_chars: most characters of a name, and of a value.
    """
    shown = [f"{_short_json(name, max_chars)}: {_short_json(value, max_chars)}" for name, value in values.items()]
    more = f", and {len(shown) - max_values:,} more" if len(shown) > max_values else ""
    return ", ".join(shown[:max_values]) + more


def _short_json(value: Any, max_chars: int) -> str:
    if isinstance(value, str):  # cut inside of its quotes
        return json.dumps(shorten(value, max_chars), ensure_ascii=False)
    return shorten(json.dumps(value, ensure_ascii=False), max_chars)
