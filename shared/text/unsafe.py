"""Characters that no text of another party may have, and texts without them. Light: every command imports it."""

import re

UNSAFE = (
    *range(0x20),  # control characters: they move a terminal's cursor, set its title, or end a log's line
    *range(0x7F, 0xA0),
    *(0x2028, 0x2029),  # line and paragraph separators
    *range(0x202A, 0x202F),  # they reorder the text around them
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),  # halves of a character, which UTF-8 cannot encode
)
"""Code points that no text of another party may have."""
UNSAFE_CHARACTER = re.compile("[" + "".join(f"\\u{code:04x}" for code in UNSAFE) + "]")


def escape_unsafe(text: str, keep: str = "") -> str:
    r"""Return *text* with every unsafe character written as an escape such as ``\x1b``, except those in *keep*."""
    return UNSAFE_CHARACTER.sub(lambda found: found[0] if found[0] in keep else escape(found[0]), text)


def one_line(text: str, max_chars: int | None = None) -> str:
    """Return *text* as one line: line breaks as spaces, unsafe characters escaped, cut to *max_chars* characters."""
    line = escape_unsafe(" ".join(part.strip() for part in text.splitlines() if part.strip()))
    return line if max_chars is None else shorten(line, max_chars)


def shorten(text: str, max_chars: int) -> str:
    """Return *text* cut to *max_chars* characters; an ellipsis at its end tells that it was."""
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def escape(character: str) -> str:
    r"""A character as an escape, such as ``\x1b``."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
