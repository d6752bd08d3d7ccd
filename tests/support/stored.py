"""What a coordinator has stored, read past its service, which gives nobody a single update."""

from sqlalchemy import select

from coordinator.database.tables import BlobUseRow
from coordinator.services import Services
from coordinator.storage.storage import Storage
from shared.wire.base import BlobRef
from tests.support.server import RunningCoordinator


def stored_bytes(running: RunningCoordinator, sha256: str) -> bytes | None:
    """The bytes that a coordinator has under a digest, of whichever kind; None if no campaign uses them any more."""
    return running.run(read_stored(running.services, sha256))


async def read_stored(services: Services, sha256: str) -> bytes | None:
    """As ``stored_bytes``, in the coordinator's own event loop."""
    query = select(BlobUseRow.kind, BlobUseRow.n_bytes).where(BlobUseRow.sha256 == sha256, BlobUseRow.stored)
    for kind, n_bytes in await services.database.fetch(query.limit(1)):
        store = services.storage.store_of(kind)
        ref = BlobRef(sha256=sha256, n_bytes=n_bytes)
        return b"".join([part async for part in store.read(ref, 0, n_bytes)])
    return None


async def stage(storage: Storage, upload_id: str, offset: int, data: bytes) -> None:
    """Store a chunk that no row counts yet, as a request does whose process dies before it moves the offset."""
    async with storage.staging.chunk(upload_id, offset, storage.scratch) as chunk:
        await chunk.finish([data])
        await chunk.keep()
