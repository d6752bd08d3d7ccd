"""Keeps a lease alive while its task is worked on, and gets it back where it was lost.

A lease is lost when the coordinator could not hear of us for long enough, or was restored from a backup. The task is
still ours, since a task belongs to one agent for life: asking again gives the same task as a new attempt, and what was
trained and uploaded so far still counts.
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
from shared.wire.leases import Directive, Progress, TaskLease
from shared.wire.problems import ProblemType

log = logging.getLogger(__name__)

_REPORT_EVERY_S = 1.0
_RELEASE_S = 5.0

T = TypeVar("T")


class TaskGone(AgentError):
    """The task is ours no longer. ``successor`` is the lease that came instead, if any."""

    def __init__(self, reason: str, successor: TaskLease | None = None) -> None:
        self.successor = successor
        super().__init__(reason)


class LeaseHeartbeat:
    """Holds one task's lease. Run ``run`` beside the work; make calls that need the lease through ``call``, and the
    one that ends the task through ``finish``."""

    def __init__(self, api: CoordinatorApi, instance_id: str, lease: TaskLease) -> None:
        self._api = api
        self._instance_id = instance_id
        self._lease = lease
        self._lock = asyncio.Lock()
        self._progress: Progress | None = None
        self._news = asyncio.Event()
        self._is_finishing = False

    @property
    def task_id(self) -> str:
        return self._lease.task_id

    def report(self, progress: Progress) -> None:
        """Send the progress with the next renewal, which comes soon."""
        self._progress = progress
        self._news.set()

    async def call(self, request: Callable[[TaskLease], Awaitable[T]]) -> T:
        """Make a call in the name of the lease: until the coordinator is reached, and with a new attempt where the
        lease was lost. Raises TaskGone, and whatever else the coordinator refuses."""
        return await until_reached(lambda: self.once(request))

    async def once(self, request: Callable[[TaskLease], Awaitable[T]]) -> T:
        """As ``call``, but where the coordinator is not reached raise CoordinatorUnreachable: for transfers, which find
        out how far they came before they go on."""
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

    async def release(self) -> None:
        """Give the task back unfinished, if the coordinator answers soon; otherwise the lease ends by itself."""
        # not through `call`: whoever leaves should neither wait for the coordinator nor get another lease
        with suppress(AgentError, TimeoutError):
            async with asyncio.timeout(_RELEASE_S):
                await self._api.release(self._lease)

    async def run(self) -> None:
        """Renew, with jitter, and report progress, until cancelled. Raises TaskGone."""
        while True:
            # before the first report too: what is done within a second needs none
            await asyncio.sleep(min(_REPORT_EVERY_S, self._lease.renew_every_s / 2))
            pause_s = self._lease.renew_every_s * random.uniform(0.8, 1.0)  # noqa: S311
            # not `wait_for`, which in Python 3.11 swallows a cancellation that comes together with news
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._news.wait()
            self._news.clear()
            lease = self._lease
            try:
                reply = await self._api.renew(lease, self._progress)
                if reply.directive is Directive.CANCEL:
                    message = "the coordinator cancelled the task"
                    raise TaskGone(message)
            except CoordinatorUnreachable as error:
                log.warning("%s; the work goes on", error)
            except LeaseLost:
                # a call that ends the task ends the lease too, before its reply is here; a real loss it meets itself
                if not self._is_finishing:
                    await self._acquire_again(lease)

    async def _acquire_again(self, lost: TaskLease) -> None:
        async with self._lock:
            if self._lease is not lost:
                return  # the other one of `run` and `call` was faster
            try:
                found = await until_reached(lambda: self._api.acquire(self._instance_id, 0))
            except CoordinatorRefused as refused:
                if refused.kind != ProblemType.AGENT_ALREADY_RUNNING:
                    raise
                raise TaskGone(str(refused)) from refused
            if found is None or found.task_id != lost.task_id:
                message = f"task {lost.task_id} was taken back"
                raise TaskGone(message, found)
            log.info("got task %s back as attempt %d", found.task_id, found.attempt)
            self._lease = found
