"""Replies with a stored blob, whole or a range of it."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse

from coordinator.database.numbers import read_number
from coordinator.errors import CorruptBlob, NotFound, RangeNotSatisfiable
from coordinator.process.threads import TRANSFERS, in_thread
from coordinator.services import Services
from coordinator.storage.local_copies import LocalCopy
from coordinator.tasks.transfer.shares import Shares
from coordinator.web.reference.headers import answers, sends, takes_headers
from coordinator.web.reference.refusals import refuses
from shared.states import BlobKind
from shared.wire.base import BlobRef

_MEDIA_TYPE = "application/octet-stream"
_AT_ONCE = 256 << 10
"""Bytes up to which a reply is one piece."""
_SHARES = Shares(4 << 20, least=64 << 10, most=1 << 20)
"""What downloads have in memory."""
_BLOB = answers("ETag", "The digest in quotes") | answers("Accept-Ranges", "`bytes`")

BLOB_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole blob", "headers": _BLOB, "content": {"application/octet-stream": {}}},
    206: {
        "description": "The range",
        "headers": _BLOB | answers("Content-Range", "Which bytes these are"),
        "content": {"application/octet-stream": {}},
    },
    **refuses(RangeNotSatisfiable, CorruptBlob),
}
"""The replies of an endpoint that sends a blob, for the reference."""
TAKES_RANGE = takes_headers(sends("Range", "One range of bytes; several give the whole blob.", "bytes=0-1023"))
"""The header that such an endpoint reads, for the reference."""


async def blob_reply(services: Services, kind: BlobKind, ref: BlobRef, wanted_range: str | None) -> Response:
    """The bytes of a blob. Raises NotFound, RangeNotSatisfiable and CorruptBlob.

    Args:
        services: with the store.
        kind: a kind under which the blob is stored.
        ref: the blob, which the caller may read.
        wanted_range: the request's Range header.
    """
    store = services.storage.store_of(kind)
    if not await store.has(ref.sha256):
        raise NotFound("blob", ref.sha256)
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{ref.sha256}"', "Cache-Control": "private, immutable"}
    start, end, status = 0, ref.n_bytes, 200
    wanted = _parse_range(wanted_range, ref.n_bytes)
    if wanted is not None:
        start, end = wanted
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{ref.n_bytes}"
    if end - start <= _AT_ONCE:
        content = b"".join([piece async for piece in store.read(ref, start, end)])
        return Response(content, status, headers, _MEDIA_TYPE)
    headers["Content-Length"] = str(end - start)
    copy = await services.storage.copies.find(store, ref)
    body = store.read(ref, start, end) if copy is None else _pieces(copy, start, end)
    return StreamingResponse(body, status, headers, _MEDIA_TYPE)


async def _pieces(copy: LocalCopy, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes [start, end), read in a thread. The server takes a piece when the last one is on its way."""
    with _SHARES.taken():
        while start < end:
            piece = await in_thread(partial(copy.read, start, min(_SHARES.n_bytes, end - start)), TRANSFERS)
            start += len(piece)
            yield piece


def _parse_range(header: str | None, n_bytes: int) -> tuple[int, int] | None:
    """[start, end) of a single byte range. None for none or several: the reply is the whole blob (RFC 9110, 14.2)."""
    unit, _, value = (header or "").partition("=")
    first, dash, last = value.strip().partition("-")
    start_at, last_at = read_number(first), read_number(last)
    if unit.strip() != "bytes" or not dash or (first and start_at is None) or (last and last_at is None):
        return None
    if start_at is not None:
        start, end = start_at, n_bytes if last_at is None else min(last_at + 1, n_bytes)
    elif last_at is not None:
        start, end = max(0, n_bytes - last_at), n_bytes
    else:
        return None
    if start >= end:
        raise RangeNotSatisfiable(n_bytes)
    return start, end
