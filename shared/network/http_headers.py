"""Header fields of HTTP replies, as both sides of a connection to a coordinator read them."""

from shared.text.unsafe import one_line

_MAX_SHOWN = 40


def foreign_encoding(content_encoding: str) -> str | None:
    """The encoding of a reply, for a message; None for one that is not encoded, as it was asked for.

    A reply is never unpacked: a few kilobytes could become gigabytes in memory.
    """
    encoding = content_encoding.strip()
    return one_line(encoding, _MAX_SHOWN) if encoding.lower() not in ("", "identity") else None


def seconds_to_wait(retry_after: str) -> float | None:
    """The seconds after which a reply asks to try again. None if it does not, or not in seconds."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else None
