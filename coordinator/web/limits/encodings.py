"""Encodings of request bodies: none is taken, since a few compressed bytes may stand for gigabytes."""

from starlette.datastructures import Headers

from coordinator.errors import EncodedBody


def check_encoding(headers: Headers) -> None:
    """Raise EncodedBody for a body that is compressed, before it is read."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise EncodedBody(encoding)
