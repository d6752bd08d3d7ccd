"""Runs the benchmarks of one task in a thread, while the lease is renewed and the training child answers."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.benchmarks.child import ThreadsChild
from agent.benchmarks.interface import Asked, Benchmarks, Listening
from agent.child.supervisor import ChildDied, Supervisor
from agent.configuration.settings import AgentSettings
from agent.errors import TaskFailed
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat
from agent.network.transfer import AdapterCache
from agent.orders.jobs import BenchmarkJob
from agent.orders.on_base.model import LocalModel, LoraFile
from agent.orders.protocol import WAITS_FOR_BASE, ChildProgress, LocalProgress
from agent.workspace import Workspace
from shared.wire.benchmarks import BenchmarkScore
from shared.wire.tasks.leases import FailureKind, Phase, Progress

log = logging.getLogger(__name__)

_STOP_S = 15.0
"""Seconds that a cancelled task waits for its thread, which may wait for a program to end."""

T = TypeVar("T")


class BenchmarkTasks:
    """Runs benchmark tasks, one at a time.

    Args:
        api: the connection to the coordinator.
        workspace: the agent's home folder.
        supervisor: of the training child. Its turn is held by the caller.
    """

    def __init__(self, api: CoordinatorApi, workspace: Workspace, supervisor: Supervisor) -> None:
        self._api = api
        self._workspace = workspace
        self._supervisor = supervisor
        self._thread: threading.Thread | None = None

    async def run(
        self,
        benchmarks: Benchmarks,
        settings: AgentSettings,
        job: BenchmarkJob,
        folder: Path,
        heartbeat: LeaseHeartbeat,
    ) -> Sequence[BenchmarkScore]:
        """Measure an adapter. Returns a score for each benchmark of the job.

        Raises TaskFailed, and what transfers and the heartbeat raise.

        Args:
            benchmarks: what runs them.
            settings: the owner's.
            job: what is run.
            folder: that of the task, which keeps the replies until all is done.
            heartbeat: the task's lease, which receives the progress.
        """
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)  # one that was cancelled, and waited for a program
        cache = AdapterCache(self._workspace.adapters, settings.cache.max_bytes)
        adapter = LoraFile(weights=await cache.fetch(self._api, heartbeat, job.adapter), lora=job.lora)
        cache.evict(keep=(adapter.weights,))
        model = LocalModel(
            base=job.base,
            path=settings.models.get(job.base.model),
            fingerprint=job.fingerprint,
            cache=self._workspace.cache,
            remote_code=settings.policy.remote_code,
            is_of_campaign=True,
        )
        progress = _Progress(heartbeat.report)
        log_file = self._workspace.log_file(heartbeat.task_id)
        names = [each.name for each in job.benchmarks]
        asked = Asked(names, settings.evaluation.data, job.limit, job.seed)
        offered = {each.name: each for each in job.benchmarks}
        while True:
            child = ThreadsChild(self._supervisor, model, settings.compute, log_file)
            listening = Listening(progress.on_items, progress.on_child, child.check_wanted)
            work = partial(benchmarks.run, asked, offered, child, adapter, folder, listening)
            try:
                return await self._in_thread(work, child)
            except ChildDied as died:
                if not progress.has_advanced():
                    raise TaskFailed(FailureKind.CRASH, died.public, str(died)) from died
                log.warning("%s; starting a new one", died)

    async def _in_thread(self, work: Callable[[], T], child: ThreadsChild) -> T:
        """Call *work* in a thread of its own. If cancelled, stops the child's orders, and waits a while for the end.

        A thread of the pool would keep the agent from ending until a program has ended.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # of one that nobody waits for

        def finish(value: T | None, error: BaseException | None) -> None:
            if done.cancelled():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(value)  # type: ignore[arg-type]

        def call() -> None:
            value, error = None, None
            try:
                value = work()
            except BaseException as raised:  # noqa: BLE001 - raised in the event loop
                error = raised
            with suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon_threadsafe(finish, value, error)

        self._thread = threading.Thread(target=copy_context().run, args=(call,), name="benchmarks", daemon=True)
        self._thread.start()
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await child.stop()
            await asyncio.wait((done,), timeout=_STOP_S)
            raise


class _Progress:
    """The progress of a task: items of its benchmarks, or the base model that they wait for.

    report: receives it, in the event loop in which this is made.
    """

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._done = 0
        self._done_at_death = -1

    def on_items(self, done: int, total: int) -> None:
        """Called in the thread."""
        with suppress(RuntimeError):  # the event loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._items, done, total)

    def _items(self, done: int, total: int) -> None:
        self._done = max(self._done, done)
        self._report(Progress(phase=Phase.BENCHMARKING, done=done, total=total))

    def on_child(self, doing: ChildProgress) -> None:
        """Called in the event loop."""
        if not isinstance(doing, LocalProgress) and doing.phase in WAITS_FOR_BASE:
            self._report(doing)

    def has_advanced(self) -> bool:
        """Whether the child that just died got further than the one before it."""
        advanced, self._done_at_death = self._done > self._done_at_death, self._done
        return advanced
