"""The ledger's writer: what is sent is on the disk first.

Entries of requests that start together share one sync. Of a run of equal polls, which an idle agent sends for days, the
ledger has the first before it leaves and the number of all when another request follows; a process that is killed
leaves a run without its end, of which the number is unknown.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from agent.ledger.entries import AnyContent, Entry, PollsClosed, digest_of, line_of, polls_opened, request
from agent.ledger.files import Head, LedgerFiles
from agent.ledger.outbound import POLLS, Outbound
from shared import crash_points
from shared.system.private_files import private_folder

FILE_BYTES = 32 << 20
"""The size of a file at which the next one begins."""
_LOCK_S = 30.0
"""Seconds to wait for another process that writes."""

_Poll = tuple[str, str, str | None]


@dataclass
class _Run:
    """A run of equal polls. opened: the number of its first entry, once that is on the disk."""

    opened: "asyncio.Future[int]"
    first: datetime
    last: datetime
    count: int = 0
    n_bytes: int = 0

    def end(self) -> PollsClosed:
        """What is noted once it is over."""
        number = self.opened.result()
        return PollsClosed(opened=number, count=self.count, first=self.first, last=self.last, bytes=self.n_bytes)


class _Batch:
    """Contents that share one sync. written: the number of the first entry."""

    def __init__(self) -> None:
        self.contents: list[tuple[datetime, AnyContent]] = []
        self.written: asyncio.Future[int] = asyncio.get_running_loop().create_future()


class Ledger:
    """The ledger of one home folder, for one event loop. Several processes may write to it, one after the other.

    folder: where its files are. file_bytes: the size at which the next one begins, instead of FILE_BYTES.
    """

    def __init__(self, folder: Path, file_bytes: int | None = None) -> None:
        self.files = LedgerFiles(folder)
        self._file_bytes = file_bytes or FILE_BYTES
        self._lock = FileLock(folder / "lock", timeout=_LOCK_S, mode=0o600, thread_local=False)
        self._runs: dict[_Poll, _Run] = {}
        self._batch: _Batch | None = None
        self._writing: asyncio.Task[None] | None = None

    async def note(self, outbound: Outbound) -> None:
        """Note a request; it may leave once this returns. Raises LedgerUnusable and OSError: then it must not leave."""
        if outbound.purpose in POLLS:
            await self._note_poll(outbound)
        else:
            await self._end_runs_and_add(request(outbound))

    async def close(self) -> None:
        """Note the ends of runs of polls. Raises LedgerUnusable and OSError."""
        await self._end_runs_and_add()

    def head(self) -> Head:
        """The last entry. Raises LedgerUnusable and OSError."""
        private_folder(self.files.folder)
        with self._lock:
            return self.files.last()

    async def _note_poll(self, outbound: Outbound) -> None:
        key, now = (outbound.method, outbound.path, outbound.sha256), datetime.now(UTC)
        run = self._runs.get(key)
        if run is None:
            opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            run = self._runs[key] = _Run(opened, first=now, last=now)
            try:
                opened.set_result(await self._add([polls_opened(outbound)]))
            except BaseException as error:
                del self._runs[key]
                opened.set_exception(error if isinstance(error, Exception) else OSError("interrupted"))
                opened.exception()  # nobody may be waiting for it
                raise
        else:
            await asyncio.shield(run.opened)
        run.count += 1
        run.last = now
        run.n_bytes += outbound.n_bytes

    async def _end_runs_and_add(self, *contents: AnyContent) -> None:
        """Write the ends of the runs that are open, and *contents* after them."""
        ended = {key: run for key, run in self._runs.items() if run.count}
        for key in ended:
            del self._runs[key]
        try:
            if ended or contents:
                await self._add([*(run.end() for run in ended.values()), *contents])
        except Exception:  # nothing was written: they go on
            self._runs = {**ended, **self._runs}
            raise

    async def _add(self, contents: Sequence[AnyContent]) -> int:
        """Have contents written with whatever else waits. Returns the number of the first. Raises as ``note`` does."""
        if self._batch is None:
            self._batch = _Batch()
        batch, now = self._batch, datetime.now(UTC)
        offset = len(batch.contents)
        batch.contents += [(now, each) for each in contents]
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())
        return offset + await asyncio.shield(batch.written)

    async def _write_all(self) -> None:
        """Write batches until none waits; what comes during one sync shares the next."""
        while (batch := self._batch) is not None:
            self._batch = None
            try:
                first = await asyncio.to_thread(self._append, batch.contents)
            except Exception as error:  # noqa: BLE001 -- whoever waits gets it
                batch.written.set_exception(error)
                batch.written.exception()  # nobody may be waiting for it any more
            else:
                batch.written.set_result(first)

    def _append(self, contents: Sequence[tuple[datetime, AnyContent]]) -> int:
        """Write entries to the disk. Returns the number of the first. Raises LedgerUnusable and OSError."""
        private_folder(self.files.folder)
        with self._lock:
            head = self.files.last()
            n = first = head.n + 1
            prev = head.sha256
            lines = []
            for at, content in contents:
                lines.append(line_of(Entry(n=n, at=at, prev=prev, says=content)))
                n, prev = n + 1, digest_of(lines[-1])
            crash_points.reach("agent: before the ledger")
            self.files.append(self._file_for(first), b"".join(line + b"\n" for line in lines))
            crash_points.reach("agent: in the ledger")
            self.files.note_head(Head(n - 1, prev))
        return first

    def _file_for(self, n: int) -> Path:
        """The file that entry *n* goes to."""
        files = self.files.all()
        if files and files[-1].stat().st_size < self._file_bytes:
            return files[-1]
        return self.files.file_of(n)
