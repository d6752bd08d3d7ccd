"""The parent's side of the training child: starts it on demand, keeps it running, replaces it when it dies.

The child is spawned, never forked: a forked torch hangs in its thread pools. It writes messages to its own copy of
descriptor 1, so output that libraries print cannot garble them. Its stderr goes to the task's log.
"""

import asyncio
import importlib.util
import logging
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.configuration.settings import ComputeSettings
from agent.errors import AgentError, NotInstalled
from agent.orders.order import AnswerT, Order, replies_to
from agent.orders.protocol import OUT_OF_MEMORY_EXIT, ChildProgress, Failed, OutOfMemory, Report, TextChunk
from shared.credentials import SECRET_VARIABLES
from shared.text.quantities import duration
from shared.wire.tasks.leases import Phase, Progress

log = logging.getLogger(__name__)

DEFAULT_ARGV: tuple[str, ...] = (sys.executable, "-m", "agent.train")
CHILD_LIBRARIES = ("torch", "transformers", "peft", "trl", "datasets")
"""Libraries of the child. This process checks that they are installed and never imports them."""
_KILLED_EXIT = -9
"""The exit code after SIGKILL. No process on Windows, which has no signals, ends with it."""
_APART: dict[str, Any] = (
    {"start_new_session": True}
    if os.name == "posix"
    else {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
)
"""Ctrl-C reaches only the parent, which ends the child cleanly."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""The environment of a child that may fetch nothing."""
_LINE_BYTES = 4 << 20
_STOP_GRACE_S = 5.0


class ChildDied(AgentError):
    """The child ended without an answer.

    out_of_memory: the kernel's OOM killer is the likely cause. public: the text without the place of the log.
    """

    def __init__(self, exit_code: int, log_file: Path) -> None:
        self.exit_code = exit_code
        self.out_of_memory = exit_code in (_KILLED_EXIT, OUT_OF_MEMORY_EXIT)
        how = f"by signal {-exit_code}" if exit_code < 0 else f"with exit code {exit_code}"
        self.public = f"the training process ended {how}; see the agent's log"
        super().__init__(f"the training process ended {how}; see the agent's {log_file}")


class Supervisor:
    """Starts the child, sends it one order at a time, and reads its answers.

    The child is replaced when an order names another device, precision, trainer, or number of processes or threads than
    the order before.
    argv: the child's command; None means DEFAULT_ARGV. environment: variables that it gets beside this process's.
    turn: a lock for the agents of a simulation, which share one child. An agent holds it while it uses the child and
    the files that the child reads.
    """

    def __init__(self, argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._argv = tuple(DEFAULT_ARGV if argv is None else argv)
        self._environment = dict(environment or {})
        self.turn = asyncio.Lock()
        self._footing: tuple[Any, ...] = ()
        self._process: Process | None = None
        self._log_pump: asyncio.Task[None] | None = None
        self._idle: asyncio.Task[None] | None = None
        self._is_letting_go = False
        self._log_file = Path(os.devnull)

    async def run(
        self,
        order: Order[AnswerT],
        log_file: Path,
        on_progress: Callable[[ChildProgress], None],
        on_text: Callable[[str], None] | None = None,
    ) -> AnswerT | Failed | OutOfMemory:
        """Send the child an order and return its final message. Raises ChildDied. If cancelled, ends the child.

        Args:
            order: what the child is to do.
            log_file: where what the child prints is appended.
            on_progress: called with the child's progress.
            on_text: called with each text chunk.
        """
        await self._no_longer_idle()
        self._log_file = log_file
        _create_private(log_file)
        try:
            process = self._process
            if process is not None and (process.returncode is not None or self._footing != _footing(order.compute)):
                await self._end(process)
                process = None
            if process is None:
                on_progress(Progress(phase=Phase.IMPORTING))  # the child is silent until it has imported torch
                process = await self._start(order.compute)
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(order.model_dump_json().encode() + b"\n")
                await process.stdin.drain()
                answer = await self._read_answer(order, process.stdout, on_progress, on_text)
            except (BrokenPipeError, ConnectionResetError):
                answer = None
            if answer is None or isinstance(answer, OutOfMemory) or (isinstance(answer, Failed) and answer.ends_child):
                exit_code = await self._end(process)
                if answer is None:
                    raise ChildDied(exit_code, log_file)
            self._idle = asyncio.create_task(self._let_go(order.compute.idle_s))
            return answer
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def _let_go(self, idle_s: float) -> None:
        """End the child if no order comes for a while: it holds the base model in memory."""
        await asyncio.sleep(idle_s)
        self._is_letting_go = True
        try:
            if self._process is not None:
                log.info("no task for %s: the base model is let go, and loaded again for the next", duration(idle_s))
                await self._stop()
        finally:
            self._is_letting_go = False

    async def _no_longer_idle(self) -> None:
        """Keep the child, or wait until it has ended if that is under way."""
        task, self._idle = self._idle, None
        if task is None:
            return
        if not self._is_letting_go:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """End the child: close its input, and kill it if it does not exit."""
        # in a new task: before Python 3.11.3 asyncio.timeout never fires in a task that was cancelled
        await asyncio.create_task(self._no_longer_idle())
        await asyncio.create_task(self._stop())

    def abort(self) -> None:
        """Kill the child, if there is one. From any thread: the order that it works on ends with ChildDied."""
        process = self._process
        if process is not None and process.returncode is None:
            _kill(process)

    async def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
        await self._end(process)

    async def _start(self, compute: ComputeSettings) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LINE_BYTES,
            env=child_environment(compute) | self._environment,
            **_APART,
        )
        assert process.stderr is not None
        self._process = process
        self._footing = _footing(compute)
        self._log_pump = asyncio.create_task(self._pump(process.stderr))
        log.debug("training child %d started", process.pid)
        return process

    async def _read_answer(
        self,
        order: Order[AnswerT],
        lines: asyncio.StreamReader,
        on_progress: Callable[[ChildProgress], None],
        on_text: Callable[[str], None] | None,
    ) -> AnswerT | Failed | OutOfMemory | None:
        """Return the child's final message on an order, or None if the child ended without one."""
        replies = replies_to(type(order))
        while True:
            try:
                line = await lines.readline()
                if not line:
                    return None
                reply = replies.validate_json(line)
            except ValueError:  # invalid JSON or message, or a line that is too long
                log.warning("ignoring a line from the training child that is not a message")
                continue
            if isinstance(reply, Report):
                on_progress(reply.progress)
            elif isinstance(reply, TextChunk):
                if on_text is not None:
                    on_text(reply.text)
            else:
                return reply

    async def _pump(self, stderr: asyncio.StreamReader) -> None:
        """Append the child's stderr to the current task's log."""
        while chunk := await stderr.read(1 << 16):
            # a full disk loses the log, not the task: if stderr were not read, the child would block
            with suppress(OSError), self._log_file.open("ab") as file:
                file.write(chunk)

    async def _end(self, process: Process) -> int:
        """Wait for an ending child, kill it after a grace period, and return its exit code."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_GRACE_S):
                await process.stdout.read()  # asyncio waits until a process's pipes are read to the end
                await process.wait()
        except TimeoutError:
            _kill(process)
            await process.stdout.read()
            await process.wait()
        assert process.returncode is not None
        self._process = None
        if self._log_pump is not None:
            await self._log_pump
            self._log_pump = None
        return process.returncode


def _create_private(log_file: Path) -> None:
    """Create a log that its owner alone can read: libraries may print rows."""
    with suppress(OSError):
        log_file.touch(mode=0o600)


def _kill(process: Process) -> None:
    """Kill the child. On POSIX kill its whole session: processes that it started may hold its pipes open."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def check_libraries_installed() -> None:
    """Raise NotInstalled if libraries of the default child are missing."""
    missing = [name for name in CHILD_LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise NotInstalled(missing)


def _footing(compute: ComputeSettings) -> tuple[Any, ...]:
    """What a child keeps for its life: the GPUs that it sees, its threads, the precision of the model it holds, and
    what a trainer has made of the libraries when it was imported."""
    return compute.device, compute.processes, compute.dtype, compute.threads, compute.trainer, compute.hub_kernels


def child_environment(compute: ComputeSettings) -> dict[str, str]:
    """Return the child's environment: its thread budget, no spinning OpenMP threads, and no secret of Fedloom.

    The hub's HF_TOKEN stays: the child fetches base models.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES},
        # two processes with spinning OpenMP threads slow each other tenfold on shared cores; torch reads this on import
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if compute.threads is not None:
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(compute.threads)
    return environment
