"""The agent's own training child, as a thread asks it about a base model."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.benchmarks.interface import BenchmarksStopped
from agent.child.supervisor import Supervisor
from agent.configuration.settings import ComputeSettings
from agent.local import carry_out
from agent.orders.on_base.model import LocalModel, LocalOrder
from agent.orders.order import AnswerT
from agent.orders.protocol import ChildProgress


class ThreadsChild:
    """Carries out orders of one thread in the event loop of the agent. Make it there.

    Args:
        supervisor: of the child. Its turn is held meanwhile.
        model: the base model that orders are about.
        compute: what the child may use.
        log_file: where what the child prints is appended.
    """

    def __init__(self, supervisor: Supervisor, model: LocalModel, compute: ComputeSettings, log_file: Path) -> None:
        self.model = model
        self.compute = compute
        self._supervisor = supervisor
        self._log_file = log_file
        self._loop = asyncio.get_running_loop()
        self._is_stopped = False
        self._working: asyncio.Task[Any] | None = None

    def run(self, order: LocalOrder[AnswerT], on_progress: Callable[[ChildProgress], None] = lambda _: None) -> AnswerT:
        """Have the child carry out the order; *on_progress* is called in the event loop.

        Raises TaskFailed, ChildDied, and BenchmarksStopped once ``stop`` was called.
        """
        self.check_wanted()
        future = asyncio.run_coroutine_threadsafe(self._carry_out(order, on_progress), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise BenchmarksStopped from error

    async def _carry_out(self, order: LocalOrder[AnswerT], on_progress: Callable[[ChildProgress], None]) -> AnswerT:
        self.check_wanted()  # it was called for in the thread, and may have been stopped since
        self._working = asyncio.current_task()
        try:
            return await carry_out(self._supervisor, order, self._log_file, on_progress)
        finally:
            self._working = None

    def check_wanted(self) -> None:
        """Raise BenchmarksStopped once ``stop`` was called."""
        if self._is_stopped:
            raise BenchmarksStopped

    async def stop(self) -> None:
        """Carry out nothing any more. An order under way is cancelled, which ends the child; returns once it has
        ended, since nobody else may use it before."""
        self._is_stopped = True
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait((self._working,))
