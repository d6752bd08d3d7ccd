"""Text files that a person saved: UTF-8, or what their byte-order mark says. The mark is no part of the text.

Editors on Windows put such a mark before the text.
"""

import codecs
from pathlib import Path

MARK_BYTES = 4
"""The first bytes of a file that ``marked_encoding`` needs."""
_ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    # before UTF-16, whose little-endian mark is the beginning of this one
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding that takes off the byte-order mark at the beginning of *head*; None if there is no mark."""
    return next((encoding for mark, encoding in _ENCODINGS.items() if head.startswith(mark)), None)


def read_text(path: Path) -> str:
    """Return the text of a file, with newlines as line ends. Raises OSError and UnicodeDecodeError."""
    with path.open("rb") as file:
        encoding = marked_encoding(file.read(MARK_BYTES))
    return path.read_text(encoding=encoding or "utf-8")
