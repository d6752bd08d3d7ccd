"""Resumable downloads and uploads, verified against their digests.

**The chunk size adapts to the connection.** A chunk is stored whole or not at all. A connection that breaks every few
megabytes would never deliver one of CHUNK_BYTES, and 1 Mbit/s would need more than a minute for it, longer than many
proxies wait. So chunks start small, grow while they are fast, aim at a few seconds each, and shrink when the connection
breaks; a break then costs less than one chunk. The same rule gets past a proxy that rejects large bodies with a page of
its own.

**After every break the coordinator is asked how much it has**: if a reply was lost, only the coordinator knows whether
the chunk arrived. A pause precedes the question; it is short as long as the transfer advances.
"""

import asyncio
import errno
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

from agent.errors import CoordinatorRefused, CoordinatorUnreachable, TaskFailed, TransferCorrupted
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat
from agent.network.retry import Backoff
from shared import crash_points
from shared.digest import sha256_file
from shared.durable import move_into_place
from shared.states import BlobKind
from shared.wire.base import CHUNK_BYTES, BlobRef
from shared.wire.problems import ProblemType
from shared.wire.tasks.leases import FailureKind, Phase, Progress, TaskLease, UploadRequest

log = logging.getLogger(__name__)

_FIRST_CHUNK_BYTES = 1 << 20
_MIN_CHUNK_BYTES = 1 << 16
_CHUNK_S = 5.0
_DOWNLOADS = 3
"""Downloads of a blob that does not match its digest: the second in case of a bad connection, the third to be sure."""

_LEAST_PROGRESS_BYTES = 1024
"""Bytes that must arrive within the time-out: a byte now and then is a connection that stands still."""
_RESERVE_BYTES = 64 << 20
"""Bytes of the disk that a download leaves free, for everything else on this machine."""

_RESUMABLE = frozenset({ProblemType.WRONG_OFFSET, ProblemType.BAD_CHUNK, ProblemType.NOT_FOUND})


class ChunkSize:
    """The size of the next chunk.

    It at most doubles until a chunk fails, and grows by at most a quarter afterwards: otherwise every second chunk
    would fail on a connection with a fixed limit.
    """

    def __init__(self) -> None:
        self.n_bytes = _FIRST_CHUNK_BYTES
        self._growth = 2.0

    def succeeded(self, seconds: float) -> None:
        """Adapt to a chunk of this size that took *seconds* including its reply."""
        factor = min(self._growth, max(0.5, _CHUNK_S / max(seconds, 1e-6)))
        self.n_bytes = min(CHUNK_BYTES, max(_MIN_CHUNK_BYTES, int(self.n_bytes * factor)))

    def failed(self) -> None:
        """Adapt to a chunk of this size that did not arrive."""
        self.n_bytes = max(_MIN_CHUNK_BYTES, self.n_bytes // 2)
        self._growth = 1.25


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
        self.evict((*keep, path, part), room_bytes=ref.n_bytes - _size(part))
        check_room(self._folder, ref.n_bytes - _size(part))
        for tries in range(1, _DOWNLOADS + 1):
            part.touch(mode=0o600)
            await _complete(api, heartbeat, ref, part)
            actual = await asyncio.to_thread(sha256_file, part)
            if actual == ref.sha256:
                crash_points.reach("agent: download whole")
                await asyncio.to_thread(move_into_place, part, path)
                return path
            log.warning("download %d of blob %s has SHA-256 %s instead; deleting it", tries, ref.sha256, actual)
            part.unlink()
        raise TransferCorrupted(ref.sha256, actual, _DOWNLOADS)

    def evict(self, keep: Collection[Path | None], room_bytes: int = 0) -> None:
        """Delete the least recently used files, whole or partial, until the cache fits its limit.

        keep: files that stay in any case. room_bytes: what is to be added afterwards.
        """
        files = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        total = max(0, room_bytes) + sum(path.stat().st_size for path in files)
        for path in files:
            if total <= self._max_bytes:
                return
            if path not in keep:
                total -= path.stat().st_size
                path.unlink()


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


async def _complete(api: CoordinatorApi, heartbeat: LeaseHeartbeat, ref: BlobRef, part: Path) -> None:
    """Download the missing rest of *part*, over as many connections as it takes. Raises what ``fetch`` raises."""
    backoff = Backoff()
    while (n_bytes := _size(part)) < ref.n_bytes:  # a longer one has another digest, and is deleted for it
        try:
            await heartbeat.once(lambda lease: _download(api, heartbeat, lease, ref, part))
        except CoordinatorUnreachable as error:
            if _size(part) > n_bytes:
                backoff.reset()
            await backoff.pause(error)


async def _download(api: CoordinatorApi, heartbeat: LeaseHeartbeat, lease: TaskLease, ref: BlobRef, part: Path) -> None:
    """Download the missing rest of *part* over one connection, and no byte more than the blob has."""

    def on_bytes(done: int) -> None:
        heartbeat.report(Progress(phase=Phase.DOWNLOADING, done=done, total=ref.n_bytes))
        crash_points.reach("agent: piece downloaded")

    try:
        async with api.download(lease, ref.sha256, _size(part)) as pieces:
            await append_pieces(pieces, part, ref.n_bytes, api.timeout_s, on_bytes)
    except CoordinatorRefused as refused:
        if refused.kind == ProblemType.FORBIDDEN:
            # only a live lease grants access to its blobs; if ours is lost, this raises LeaseLost
            await api.renew(lease, None)
        if refused.kind == ProblemType.NOT_FOUND:
            message = "the coordinator no longer has a file that this task needs"
            raise TaskFailed(FailureKind.TRANSFER, message, f"{message}: {refused}") from refused
        raise


async def append_pieces(
    pieces: AsyncIterator[bytes], part: Path, n_bytes: int, timeout_s: float, on_bytes: Callable[[int], None]
) -> None:
    """Append to a file what comes over one connection, and no byte beyond *n_bytes* in all.

    Raises CoordinatorUnreachable if it ends early, TimeoutError if it stands still, and OSError.

    Args:
        pieces: the bytes that follow those of the file.
        part: the file.
        n_bytes: bytes that the whole file has.
        timeout_s: seconds without progress after which the connection stands still.
        on_bytes: called with the size of the file after each piece.
    """
    async with asyncio.timeout(timeout_s) as pace:
        with part.open("ab") as file:
            in_time = file.tell()
            async for piece in pieces:
                if file.tell() == n_bytes:
                    return
                file.write(piece[: n_bytes - file.tell()])
                file.flush()  # so that the file is a prefix of the blob at any time, even on a full disk
                if file.tell() - in_time >= _LEAST_PROGRESS_BYTES:
                    in_time = file.tell()
                    pace.reschedule(asyncio.get_running_loop().time() + timeout_s)
                on_bytes(file.tell())
    if _size(part) < n_bytes:
        message = "the coordinator ended a download early"
        raise CoordinatorUnreachable(message)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


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
        n_bytes = file.seek(0, os.SEEK_END)
        request = UploadRequest(purpose=purpose, sha256=sha256, n_bytes=n_bytes)
        size, backoff, furthest = ChunkSize(), Backoff(), 0
        while True:
            started = await heartbeat.call(lambda lease: api.start_upload(lease, request))
            if started.offset > n_bytes:
                message = f"the coordinator says that it has {started.offset:,} of the {n_bytes:,} bytes of an upload"
                await backoff.pause(CoordinatorUnreachable(message))
                continue
            if started.offset > furthest:
                backoff.reset()  # the chunk arrived, and only its reply was lost
            offset = started.offset
            furthest = max(furthest, offset)
            try:
                while offset < n_bytes:
                    file.seek(offset)
                    chunk, start, began = file.read(size.n_bytes), offset, time.monotonic()
                    offset = await heartbeat.once(lambda lease: api.append(lease, started.id, start, chunk))  # noqa: B023
                    size.succeeded(time.monotonic() - began)
                    if offset > furthest:  # a coordinator that forgets chunks is asked ever less often
                        furthest = offset
                        backoff.reset()
                    heartbeat.report(Progress(phase=Phase.UPLOADING, done=offset, total=n_bytes))
                    crash_points.reach("agent: chunk sent")
                return
            except CoordinatorUnreachable as error:
                size.failed()
                await backoff.pause(error)
            except CoordinatorRefused as error:
                if error.kind not in _RESUMABLE:
                    raise
                if error.kind == ProblemType.BAD_CHUNK:
                    size.failed()  # the connection alters bytes: a smaller chunk is more likely to arrive intact
                await backoff.pause(error)
