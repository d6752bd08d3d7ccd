"""Downloads and uploads that go on where they stopped, checked against their digests."""

import asyncio
import logging
import os
import random
from collections.abc import Collection
from pathlib import Path

from agent.api import CoordinatorApi
from agent.errors import CoordinatorRefused, CoordinatorUnreachable, TransferCorrupted
from agent.lease import LeaseKeeper
from shared.digest import sha256_file
from shared.states import BlobKind
from shared.wire.base import CHUNK_BYTES, BlobRef
from shared.wire.leases import Phase, Progress, TaskLease, UploadRequest
from shared.wire.problems import ProblemType

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 2.0


class AdapterCache:
    """Downloaded adapters by digest; the least recently used go when there are too many bytes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    async def fetch(self, api: CoordinatorApi, keeper: LeaseKeeper, ref: BlobRef) -> Path:
        """The blob as a local file. Raises TaskGone, TransferCorrupted and CoordinatorRefused."""
        path = self._folder / ref.sha256
        # checked here too: a power cut may have left the name without the bytes
        if path.exists() and await asyncio.to_thread(sha256_file, path) == ref.sha256:
            path.touch()
            return path
        part = path.with_suffix(".part")

        async def rest(lease: TaskLease) -> None:
            offset = part.stat().st_size if part.exists() else 0
            if offset >= ref.n_bytes:
                return
            try:
                async with api.download(ref.sha256, offset) as chunks:
                    with part.open("ab") as file:
                        async for chunk in chunks:
                            file.write(chunk)
                            keeper.report(Progress(phase=Phase.DOWNLOADING, done=file.tell(), total=ref.n_bytes))
            except CoordinatorRefused as refused:
                if refused.kind == ProblemType.FORBIDDEN:
                    # only a live lease opens its blobs; where ours is lost, this says so
                    await api.renew(lease, None)
                raise
            if part.stat().st_size < ref.n_bytes:
                message = "a download ended early"
                raise CoordinatorUnreachable(message)

        await keeper.call(rest)
        found = await asyncio.to_thread(sha256_file, part)
        if found != ref.sha256:
            part.unlink()
            raise TransferCorrupted(ref.sha256, found)
        part.replace(path)
        return path

    def evict(self, keep: Collection[Path | None]) -> None:
        """Delete the least recently used files while there are too many bytes, but none of *keep*."""
        files = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in files)
        for path in files:
            if total <= self._max_bytes:
                return
            if path not in keep:
                total -= path.stat().st_size
                path.unlink()


async def upload(api: CoordinatorApi, keeper: LeaseKeeper, purpose: BlobKind, path: Path, sha256: str) -> None:
    """Send a task's file in chunks, from where an earlier attempt stopped. Raises TaskGone and CoordinatorRefused."""
    with path.open("rb") as file:
        n_bytes = file.seek(0, os.SEEK_END)
        request = UploadRequest(purpose=purpose, sha256=sha256, n_bytes=n_bytes)
        while True:
            # asked anew after every interruption: the coordinator knows best how much it has
            started = await keeper.call(lambda lease: api.start_upload(lease, request))
            offset = started.offset
            try:
                while offset < n_bytes:
                    file.seek(offset)
                    chunk = file.read(CHUNK_BYTES)
                    at = offset
                    offset = await keeper.call(lambda lease: api.append(lease, started.id, at, chunk))  # noqa: B023
                    keeper.report(Progress(phase=Phase.UPLOADING, done=offset, total=n_bytes))
                return
            except CoordinatorRefused as error:
                if error.kind not in (ProblemType.WRONG_OFFSET, ProblemType.BAD_CHUNK, ProblemType.NOT_FOUND):
                    raise
                log.info("%s; asking where to go on", error)
                await asyncio.sleep(random.uniform(0, _ASK_AGAIN_S))  # noqa: S311 - it may be refused again and again
