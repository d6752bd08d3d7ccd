"""Appends chunks to uploads. A chunk is checked and durable before the upload's row says that it is there."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import exists, update

from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import UploadRow
from coordinator.errors import BadChunk, NotFound, TooLarge, UploadBusy, WrongOffset
from coordinator.services import Services
from coordinator.storage.chunks.chunk import Chunk
from coordinator.tasks.claims import LeaseClaim, LeaseHolder
from coordinator.tasks.held import IS_LEASED, fence_of
from coordinator.tasks.transfer.found_uploads import UploadFacts, find_leased
from coordinator.tasks.transfer.receiving import receive
from coordinator.tasks.transfer.senders import Senders
from shared.digest import matches_content_digest

log = logging.getLogger(__name__)

SENDERS = Senders()
"""Of this process. Across processes, the row's offset fences."""

_MOVE_OFFSET = Prepared(
    update(UploadRow)
    .where(UploadRow.id == given("upload"), UploadRow.offset == given("offset"), exists().where(IS_LEASED))
    .values(offset=given("end"), updated_at=given("now"))
    .returning(UploadRow.id)
)


@dataclass(frozen=True)
class Body:
    """A chunk as it arrives.

    Args:
        pieces: its bytes.
        n_bytes: how many were announced; None if that was left open.
        content_digest: the value of its Content-Digest.
    """

    pieces: AsyncIterator[bytes]
    n_bytes: int | None
    content_digest: str


async def append(services: Services, holder: LeaseHolder, upload_id: str, offset: int, body: Body) -> int:
    """Append a chunk at the upload's end. Returns the new offset.

    Raises NotFound, Forbidden, LeaseLost, BadChunk, WrongOffset, UploadBusy, TooLarge, StorageFull, TooManyRequests.
    """
    staging, scratch = services.storage.staging, services.storage.scratch
    async with SENDERS.turn(upload_id):
        await _find_at(services, holder, upload_id, offset)  # before anything of it is opened
        with SENDERS.with_file():  # after the row was found: no stranger takes one
            async with staging.chunk(upload_id, offset, scratch) as chunk:
                try:
                    # again: until the file was ours, a request to another process may have appended, or deleted it
                    claim, upload = await _find_at(services, holder, upload_id, offset)
                    await _receive(upload_id, body, chunk, upload.n_bytes)
                    if not await _move_offset(services, claim, upload_id, chunk):
                        await _find_at(services, holder, upload_id, offset)  # says why
                        raise UploadBusy(offset)
                except NotFound:  # its row went first, then our chunk came
                    await staging.discard(upload_id)
                    raise
                chunk.counts()
    log.debug("upload %s: %d bytes at %d of %d", upload_id, chunk.n_bytes, offset, upload.n_bytes)
    return chunk.end


async def _find_at(
    services: Services, holder: LeaseHolder, upload_id: str, offset: int
) -> tuple[LeaseClaim, UploadFacts]:
    """An upload to which a chunk at an offset can be appended. Raises NotFound, Forbidden, LeaseLost, WrongOffset."""
    claim, upload = await find_leased(services, holder, upload_id)
    if offset != upload.offset:
        raise WrongOffset(upload.offset, offset)
    return claim, upload


async def _receive(upload_id: str, body: Body, chunk: Chunk, n_bytes: int) -> None:
    """Receive a chunk of a file of *n_bytes*, which is durable afterwards. Raises what ``append`` raises."""
    if body.n_bytes is not None and chunk.offset + body.n_bytes > n_bytes:
        raise TooLarge(chunk.offset + body.n_bytes, n_bytes)
    async with SENDERS.receiving(upload_id, chunk.offset):
        await receive(_up_to(n_bytes - chunk.offset, body.pieces), chunk)
    if not matches_content_digest(chunk.sha256, body.content_digest):
        raise BadChunk
    await chunk.keep()


async def _up_to(limit: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces of at most *limit* bytes together. Raises TooLarge."""
    n_bytes = 0
    async for piece in pieces:
        n_bytes += len(piece)
        if n_bytes > limit:
            raise TooLarge(None, limit)
        yield piece


async def _move_offset(services: Services, claim: LeaseClaim, upload_id: str, chunk: Chunk) -> bool:
    """Record that an upload has a chunk. Returns False if another request appended, the lease was lost, or the upload
    was deleted meanwhile."""
    span = {"offset": chunk.offset, "end": chunk.end}
    async with services.database.transact("append") as transaction:
        now = services.clock.now()
        if await _MOVE_OFFSET.first(transaction, **fence_of(claim), upload=upload_id, now=now, **span) is None:
            return False
        await services.storage.staging.trim(transaction, upload_id, **span)
    return True
