"""Downloads and uploads that go on where they stopped, checked against their digests.

**A chunk follows the line.** A chunk counts whole or not at all, so a line that is cut every few megabytes would never
get one of CHUNK_BYTES through, and a line of 1 Mbit/s would need more than a minute for it, which is longer than many
proxies wait. So chunks begin small, grow while they go through quickly, aim at a few seconds each, and shrink where
they are cut; a cut then costs less than one of them. The same finds the way through a proxy that refuses large bodies
with a page of its own.

**After every cut the coordinator is asked how much it has**: whether a chunk arrived whose reply was lost only it
knows. Between a cut and the question lies a pause, short as long as the transfer comes further.
"""

import asyncio
import logging
import os
import time
from collections.abc import Collection
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
from shared.wire.leases import FailureKind, Phase, Progress, TaskLease, UploadRequest
from shared.wire.problems import ProblemType

log = logging.getLogger(__name__)

_FIRST_CHUNK_BYTES = 1 << 20
_LEAST_CHUNK_BYTES = 1 << 16
_CHUNK_S = 5.0
_DOWNLOADS = 3
"""How often a blob that does not have its digest is downloaded: once more for a bad line, and once to be sure."""

_ASK_WHERE_TO_GO_ON = frozenset({ProblemType.WRONG_OFFSET, ProblemType.BAD_CHUNK, ProblemType.NOT_FOUND})


class ChunkSize:
    """How many bytes the next chunk has.

    It doubles at most, as long as nothing was cut; afterwards it grows by a quarter, or every second chunk would be cut
    on a line that carries only so much at a time.
    """

    def __init__(self) -> None:
        self.n_bytes = _FIRST_CHUNK_BYTES
        self._growth = 2.0

    def went_through(self, seconds: float) -> None:
        """A chunk of this size took so long, until its reply was here."""
        factor = min(self._growth, max(0.5, _CHUNK_S / max(seconds, 1e-6)))
        self.n_bytes = min(CHUNK_BYTES, max(_LEAST_CHUNK_BYTES, int(self.n_bytes * factor)))

    def was_cut(self) -> None:
        """A chunk of this size did not go through."""
        self.n_bytes = max(_LEAST_CHUNK_BYTES, self.n_bytes // 2)
        self._growth = 1.25


class AdapterCache:
    """Downloaded adapters by digest; the least recently used go when there are too many bytes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    async def fetch(self, api: CoordinatorApi, heartbeat: LeaseHeartbeat, ref: BlobRef) -> Path:
        """The blob as a local file. Raises TaskGone, TransferCorrupted, CoordinatorRefused, TaskFailed, and OSError.

        What was downloaded stays, so that after a lost task or a full disk another call goes on with it.
        """
        path = self._folder / ref.sha256
        # checked here too: a power cut may have left the name without the bytes
        if path.exists() and await asyncio.to_thread(sha256_file, path) == ref.sha256:
            path.touch()
            return path
        part = path.with_suffix(".part")
        for tries in range(1, _DOWNLOADS + 1):
            await _complete(api, heartbeat, ref, part)
            found = await asyncio.to_thread(sha256_file, part)
            if found == ref.sha256:
                crash_points.reach("agent: download whole")
                await asyncio.to_thread(move_into_place, part, path)
                return path
            log.warning("download %d of %s has SHA-256 %s; it is thrown away", tries, ref.sha256, found)
            part.unlink()
        raise TransferCorrupted(ref.sha256, found, _DOWNLOADS)

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


async def _complete(api: CoordinatorApi, heartbeat: LeaseHeartbeat, ref: BlobRef, part: Path) -> None:
    """Download what a part lacks, over as many connections as it takes. Raises what ``fetch`` does."""
    backoff = Backoff()
    while (there := _size(part)) < ref.n_bytes:
        try:
            await heartbeat.once(lambda lease: _download(api, heartbeat, lease, ref, part))
        except CoordinatorUnreachable as error:
            if _size(part) > there:
                backoff.reset()
            await backoff.pause(error)


async def _download(api: CoordinatorApi, heartbeat: LeaseHeartbeat, lease: TaskLease, ref: BlobRef, part: Path) -> None:
    """Download what a part lacks, over one connection."""
    try:
        async with api.download(ref.sha256, _size(part)) as pieces:
            with part.open("ab") as file:
                async for piece in pieces:
                    file.write(piece)
                    file.flush()  # what is in the file is the blob's beginning at any time, on a full disk too
                    heartbeat.report(Progress(phase=Phase.DOWNLOADING, done=file.tell(), total=ref.n_bytes))
                    crash_points.reach("agent: piece downloaded")
    except CoordinatorRefused as refused:
        if refused.kind == ProblemType.FORBIDDEN:
            # only a live lease opens its blobs; where ours is lost, this says so
            await api.renew(lease, None)
        if refused.kind == ProblemType.NOT_FOUND:
            raise TaskFailed(
                FailureKind.TRANSFER, f"the coordinator lost what this task begins with: {refused}"
            ) from refused
        raise
    if _size(part) < ref.n_bytes:
        message = "a download ended early"
        raise CoordinatorUnreachable(message)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


async def upload(api: CoordinatorApi, heartbeat: LeaseHeartbeat, purpose: BlobKind, path: Path, sha256: str) -> None:
    """Send a task's file in chunks, from where an earlier attempt stopped. Raises TaskGone and CoordinatorRefused."""
    with path.open("rb") as file:
        n_bytes = file.seek(0, os.SEEK_END)
        request = UploadRequest(purpose=purpose, sha256=sha256, n_bytes=n_bytes)
        size, backoff, there = ChunkSize(), Backoff(), 0
        while True:
            started = await heartbeat.call(lambda lease: api.start_upload(lease, request))
            if started.offset > there:
                backoff.reset()  # the chunk came through, and only its reply did not
            there = started.offset
            try:
                while there < n_bytes:
                    file.seek(there)
                    chunk, at, began = file.read(size.n_bytes), there, time.monotonic()
                    there = await heartbeat.once(lambda lease: api.append(lease, started.id, at, chunk))  # noqa: B023
                    size.went_through(time.monotonic() - began)
                    backoff.reset()
                    heartbeat.report(Progress(phase=Phase.UPLOADING, done=there, total=n_bytes))
                    crash_points.reach("agent: chunk sent")
                return
            except CoordinatorUnreachable as error:
                size.was_cut()
                await backoff.pause(error)
            except CoordinatorRefused as error:
                if error.kind not in _ASK_WHERE_TO_GO_ON:
                    raise
                if error.kind == ProblemType.BAD_CHUNK:
                    size.was_cut()  # the line changes bytes: fewer of them are more likely to be left alone
                await backoff.pause(error)
