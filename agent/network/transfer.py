"""Resumable downloads and uploads, verified against their digests.

**The chunk size adapts to the connection.** A chunk is stored whole or not at all. A connection that breaks every few
megabytes would never deliver one of CHUNK_BYTES, and 1 Mbit/s would need more than a minute for it, longer than many
proxies wait. So chunks start small, grow while they are fast, aim at a few seconds each, and shrink when the connection
breaks; a break then costs less than one chunk. The same rule gets past a proxy that rejects large bodies with a page of
its own.

**After every break the coordinator is asked how much it has**: if a reply was lost, only the coordinator knows whether
the chunk arrived. A pause precedes the question; it is short as long as the transfer advances. A later attempt asks
first too. Otherwise the request that begins an upload carries the first chunk.
"""

import asyncio
import errno
import logging
import os
import shutil
import time
from collections.abc import Collection
from itertools import chain, repeat
from pathlib import Path
from typing import IO

from agent.errors import CoordinatorRefused, CoordinatorUnreachable, TaskFailed, TransferCorrupted
from agent.ledger.outbound import Chunk
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat
from agent.network.parts import PartialFile
from agent.network.retry import Backoff
from shared import crash_points
from shared.digest import sha256_file
from shared.states import BlobKind
from shared.system.durable import move_into_place
from shared.wire.base import BlobRef
from shared.wire.problems import ProblemType
from shared.wire.tasks.leases import FailureKind, Phase, Progress, TaskLease, UploadReply, UploadRequest

log = logging.getLogger(__name__)

_DOWNLOADS = 3
"""Downloads of a blob that does not match its digest: the second in case of a bad connection, the third to be sure."""

_RESERVE_BYTES = 64 << 20
"""Bytes of the disk that a download leaves free, for everything else on this machine."""

_RESUMABLE = frozenset({ProblemType.WRONG_OFFSET, ProblemType.BAD_CHUNK, ProblemType.NOT_FOUND})


class AdapterCache:
    """Downloaded adapters by digest. The least recently used are deleted when the cache is too large."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    async def fetch(
        self, api: CoordinatorApi, heartbeat: LeaseHeartbeat, ref: BlobRef, keep: Collection[Path | None] = ()
    ) -> Path:
        """Return the blob as a local file, downloading it if it is not cached.

        Raises TaskGone, TransferCorrupted, CoordinatorRefused, TaskFailed and OSError. A partial download stays on
        disk, so another call resumes it after a lost task or a full disk. It counts in the cache as other files do.

        Args:
            api: the connection to the coordinator.
            heartbeat: the task's lease.
            ref: the blob.
            keep: files of the cache that the task needs as well.
        """
        path = self._folder / ref.sha256
        # checked in the cache too: a power cut may have left the name without the bytes
        if path.exists() and await asyncio.to_thread(sha256_file, path) == ref.sha256:
            path.touch()
            return path
        part = path.with_suffix(".part")
        n_missing = ref.n_bytes - (part.stat().st_size if part.exists() else 0)
        self.evict((*keep, path, part), room_bytes=n_missing)
        check_room(self._folder, n_missing)
        for tries in range(1, _DOWNLOADS + 1):
            part.touch(mode=0o600)
            partial = PartialFile(part)
            await _complete(api, heartbeat, ref, partial)
            actual = await partial.sha256()
            if actual == ref.sha256:
                crash_points.reach("agent: download whole")
                move_into_place(part, path, synced=False)  # whoever takes it from the cache checks its digest
                return path
            log.warning("download %d of blob %s has SHA-256 %s instead; deleting it", tries, ref.sha256, actual)
            part.unlink()
        raise TransferCorrupted(ref.sha256, actual, _DOWNLOADS)

    def evict(self, keep: Collection[Path | None], room_bytes: int = 0) -> None:
        """Delete the least recently used files, whole or partial, until the cache fits its limit.

        keep: files that stay in any case. room_bytes: what is to be added afterwards.
        """
        with os.scandir(self._folder) as entries:
            files = [(entry.path, entry.stat()) for entry in entries]
        total = max(0, room_bytes) + sum(found.st_size for _, found in files)
        if total <= self._max_bytes:
            return
        for name, found in sorted(files, key=lambda file: file[1].st_mtime):
            path = Path(name)
            if path not in keep:
                total -= found.st_size
                path.unlink()
            if total <= self._max_bytes:
                return


def check_room(folder: Path, n_bytes: int) -> None:
    """Check, before the first byte of a download, that the disk has room for *n_bytes* and a reserve.

    Raises TaskFailed (transfer) if the disk is too small altogether, and OSError if it is too full now.
    """
    disk = shutil.disk_usage(folder)
    if n_bytes > disk.total - _RESERVE_BYTES:
        message = (
            f"the task needs a file of {n_bytes:,} bytes more, and the disk of this agent has {disk.total:,} in all; "
            "the size that the coordinator names is wrong, or the campaign is too large for this machine"
        )
        raise TaskFailed(FailureKind.TRANSFER, message)
    if n_bytes > 0 and n_bytes > disk.free - _RESERVE_BYTES:
        message = f"a download of {n_bytes:,} bytes does not fit beside a reserve of {_RESERVE_BYTES:,}"
        raise OSError(errno.ENOSPC, message)


async def _complete(api: CoordinatorApi, heartbeat: LeaseHeartbeat, ref: BlobRef, part: PartialFile) -> None:
    """Download the missing rest of *part*, over as many connections as it takes. Raises what ``fetch`` raises."""
    backoff = Backoff()
    while (n_bytes := part.n_bytes) < ref.n_bytes:  # a longer one has another digest, and is deleted for it
        try:
            await heartbeat.once(lambda lease: _download(api, heartbeat, lease, ref, part))
        except CoordinatorUnreachable as error:
            if part.n_bytes > n_bytes:
                backoff.reset()
            await backoff.pause(error)


async def _download(
    api: CoordinatorApi, heartbeat: LeaseHeartbeat, lease: TaskLease, ref: BlobRef, part: PartialFile
) -> None:
    """Download the missing rest of *part* over one connection, and no byte more than the blob has."""

    def on_bytes(done: int) -> None:
        heartbeat.report(Progress(phase=Phase.DOWNLOADING, done=done, total=ref.n_bytes))
        crash_points.reach("agent: piece downloaded")

    try:
        async with api.download(lease, ref.sha256, part.n_bytes) as pieces:
            await part.append(pieces, ref.n_bytes, api.timeout_s, on_bytes)
    except CoordinatorRefused as refused:
        if refused.kind == ProblemType.FORBIDDEN:
            # only a live lease grants access to its blobs; if ours is lost, this raises LeaseLost
            await api.renew(lease, None)
        if refused.kind == ProblemType.NOT_FOUND:
            message = "the coordinator no longer has a file that this task needs"
            raise TaskFailed(FailureKind.TRANSFER, message, f"{message}: {refused}") from refused
        raise


async def upload(api: CoordinatorApi, heartbeat: LeaseHeartbeat, purpose: BlobKind, path: Path, sha256: str) -> None:
    """Upload a task's file in chunks, resuming where an earlier attempt stopped.

    Raises TaskGone and CoordinatorRefused.

    Args:
        api: the connection to the coordinator.
        heartbeat: the task's lease.
        purpose: what the file is to the task.
        path: the file.
        sha256: its digest.
    """
    with path.open("rb") as file:
        request = UploadRequest(purpose=purpose, sha256=sha256, n_bytes=file.seek(0, os.SEEK_END))
        await _Upload(api, heartbeat, file, request).run()


class _Upload:
    """One file on its way. The request that begins it carries its first chunk, which for a small file is all of it.

    Args:
        api: the connection to the coordinator.
        heartbeat: the task's lease.
        file: the file.
        request: what it is.
    """

    def __init__(self, api: CoordinatorApi, heartbeat: LeaseHeartbeat, file: IO[bytes], request: UploadRequest) -> None:
        self._api = api
        self._heartbeat = heartbeat
        self._file = file
        self._request = request
        self._size = api.chunk_size
        self._backoff = Backoff()
        self._furthest = 0

    async def run(self) -> None:
        """Send what the coordinator lacks. Raises TaskGone and CoordinatorRefused."""
        self._size.begin()
        # an earlier attempt may have sent some of it
        first = self._begin if self._heartbeat.attempt == 1 else self._ask
        for start in chain([first], repeat(self._ask)):
            try:
                started = await start()
                offset = started.offset
                while offset < self._request.n_bytes:
                    offset = await self._send(started.id, offset)
                return
            except CoordinatorUnreachable as error:
                self._size.failed()
                await self._backoff.pause(error)
            except CoordinatorRefused as error:
                if error.kind not in _RESUMABLE:
                    raise
                if error.kind == ProblemType.BAD_CHUNK:
                    self._size.failed()  # the connection alters bytes: a smaller chunk is more likely to arrive intact
                await self._backoff.pause(error)

    async def _begin(self) -> UploadReply:
        """Begin it with its first chunk."""
        chunk, began = await self._read(0), time.monotonic()
        started = await self._heartbeat.once(lambda lease: self._api.start_upload(lease, self._request, chunk))
        if started.offset == len(chunk.data):
            self._size.succeeded(time.monotonic() - began)
        self._advanced_to(started.offset)
        return started

    async def _ask(self) -> UploadReply:
        """Ask how much of it arrived: the reply to a chunk may have been lost."""
        started = await self._heartbeat.call(lambda lease: self._api.start_upload(lease, self._request))
        self._advanced_to(started.offset)
        return started

    async def _send(self, upload_id: str, offset: int) -> int:
        """Send a chunk. Returns the new offset."""
        chunk, began = await self._read(offset), time.monotonic()
        end = await self._heartbeat.once(lambda lease: self._api.append(lease, upload_id, offset, chunk))
        self._size.succeeded(time.monotonic() - began)
        self._advanced_to(end)
        return end

    async def _read(self, offset: int) -> Chunk:
        """The chunk at an offset, read and hashed in a thread."""

        def read() -> Chunk:
            self._file.seek(offset)
            return Chunk.of(self._file.read(self._size.n_bytes))

        return await asyncio.to_thread(read)

    def _advanced_to(self, offset: int) -> None:
        """Note how far the coordinator is. One that forgets chunks is asked ever less often."""
        n_bytes = self._request.n_bytes
        if offset > n_bytes:
            message = f"the coordinator says that it has {offset:,} of the {n_bytes:,} bytes of an upload"
            raise CoordinatorUnreachable(message)
        if offset > self._furthest:
            self._furthest = offset
            self._backoff.reset()
            self._heartbeat.report(Progress(phase=Phase.UPLOADING, done=offset, total=n_bytes))
            crash_points.reach("agent: chunk sent")
