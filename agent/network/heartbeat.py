"""Renews a lease while its task runs, and acquires the task again if the lease is lost.

A lease is lost if no renewal reaches the coordinator in time, or if the coordinator was restored from a backup. The
task still belongs to this agent, as a task does for life: acquiring it again starts a new attempt, and everything
trained and uploaded so far stays valid.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from agent.errors import AgentError, CoordinatorRefused, CoordinatorUnreachable, LeaseLost
from agent.network.api import CoordinatorApi
from agent.network.retry import until_reached
from shared.wire.problems import ProblemType
from shared.wire.tasks.leases import Directive, Progress, TaskLease

log = logging.getLogger(__name__)

_REPORT_EVERY_S = 1.0
_LEAST_RENEWAL_S = 1.0
"""The shortest interval of renewals, whatever the coordinator asks for."""
_RELEASE_S = 5.0

T = TypeVar("T")


class TaskGone(AgentError):
    """This agent no longer holds the task. ``successor``: the lease of another task that came instead, or None."""

    def __init__(self, reason: str, successor: TaskLease | None = None) -> None:
        self.successor = successor
        super().__init__(reason)


class LeaseHeartbeat:
    """Holds one task's lease.

    Run ``run`` beside the work. Make calls that need the lease through ``call``, and the call that ends the task
    through ``finish``.
    """

    def __init__(
        self,
        api: CoordinatorApi,
        instance_id: str,
        lease: TaskLease,
        disclose: Callable[[Progress], Progress] = lambda progress: progress,
    ) -> None:
        """Hold a lease.

        Args:
            api: the connection to the coordinator.
            instance_id: of this process.
            lease: as it was granted.
            disclose: called with all progress of the task. Returns what of it leaves.
        """
        self._api = api
        self._disclose = disclose
        self._instance_id = instance_id
        self._lease = lease
        self._lock = asyncio.Lock()
        self._progress: Progress | None = None
        self._progress_changed = asyncio.Event()
        self._is_finishing = False

    @property
    def task_id(self) -> str:
        return self._lease.task_id

    @property
    def attempt(self) -> int:
        """The number of this agent's tries at the task so far, from 1."""
        return self._lease.attempt

    def report(self, progress: Progress) -> None:
        """Send what may leave of the progress with the next renewal, which follows soon."""
        self._progress = self._disclose(progress)
        self._progress_changed.set()

    async def call(self, request: Callable[[TaskLease], Awaitable[T]]) -> T:
        """Make a call under the lease. Repeats it until the coordinator is reached, and with a new attempt if the lease
        is lost. Raises TaskGone and CoordinatorRefused."""
        return await until_reached(lambda: self.once(request))

    async def once(self, request: Callable[[TaskLease], Awaitable[T]]) -> T:
        """Make a call as ``call`` does, but raise CoordinatorUnreachable instead of repeating it.

        For transfers, which first determine how much has arrived.
        """
        while True:
            lease = self._lease
            try:
                return await request(lease)
            except LeaseLost:
                await self._acquire_again(lease)

    async def finish(self, request: Callable[[TaskLease], Awaitable[T]]) -> T:
        """Make the call that ends the task. Raises what ``call`` raises."""
        self._is_finishing = True
        return await self.call(request)

    async def release(self) -> bool:
        """Give the task back unfinished. Returns False if no answer came soon: the lease then expires by itself."""
        # not through `call`: a leaving agent must neither wait for the coordinator nor acquire another lease
        with suppress(AgentError, TimeoutError):
            async with asyncio.timeout(_RELEASE_S):
                await self._api.release(self._lease)
                return True
        return False

    async def run(self) -> None:
        """Renew the lease, with jitter, and report progress, until cancelled. Raises TaskGone."""
        while True:
            # also before the first report: a task that is done within a second needs none
            every_s = max(self._lease.renew_every_s, _LEAST_RENEWAL_S)
            await asyncio.sleep(min(_REPORT_EVERY_S, every_s / 2))
            pause_s = every_s * random.uniform(0.8, 1.0)  # noqa: S311
            # not `wait_for`: in Python 3.11 it swallows a cancellation that arrives together with the event
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._progress_changed.wait()
            self._progress_changed.clear()
            lease = self._lease
            try:
                reply = await self._api.renew(lease, self._progress)
                if reply.directive is Directive.CANCEL:
                    message = "the coordinator cancelled the task"
                    raise TaskGone(message)
            except CoordinatorUnreachable as error:
                log.warning("%s; the task continues meanwhile", error)
            except LeaseLost:
                # the call that ends the task also ends the lease, before its reply arrives; that call itself finds out
                # if the lease was really lost
                if not self._is_finishing:
                    await self._acquire_again(lease)

    async def _acquire_again(self, lost: TaskLease) -> None:
        async with self._lock:
            if self._lease is not lost:
                return  # the other one of `run` and `call` has already acquired it
            try:
                acquired = await until_reached(lambda: self._api.acquire(self._instance_id, 0))
            except CoordinatorRefused as refused:
                if refused.kind != ProblemType.AGENT_ALREADY_RUNNING:
                    raise
                raise TaskGone(str(refused)) from refused
            if acquired is None or acquired.task_id != lost.task_id:
                message = f"the coordinator withdrew task {lost.task_id}"
                raise TaskGone(message, acquired)
            log.info("got task %s back as attempt %d", acquired.task_id, acquired.attempt)
            self._lease = acquired
