"""Text files that a person saved: UTF-8, or what their byte-order mark says. The mark is not part of the text.

Editors on Windows put such a mark before the text.
"""

import codecs
import errno
import io
from pathlib import Path

MAX_FILE_BYTES = 16 << 20
"""The largest file of settings, of a campaign, a template or certificates. A device has no end."""
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
    content = read_bounded(path)
    encoding = marked_encoding(content[:MARK_BYTES]) or "utf-8"
    return io.TextIOWrapper(io.BytesIO(content), encoding=encoding).read()


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a file that a person wrote. Raises OSError, also for one that is too large to be such."""
    with path.open("rb") as file:
        try:
            content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:  # which does not name the file
            raise OSError(error.errno, error.strerror, str(path)) from error
    if len(content) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MAX_FILE_BYTES >> 20} MiB; is it the right file?", str(path))
    return content
