"""The training child, seen from its parent: started when needed, kept warm, replaced when it dies.

Spawned, never forked: a forked torch hangs in its thread pools. It speaks on its own copy of descriptor 1, so what
libraries print cannot garble the lines; stderr goes to the task's log.
"""

import asyncio
import importlib.util
import logging
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, overload

from agent.child import (
    ANSWER,
    OUT_OF_MEMORY_EXIT,
    Answer,
    Answered,
    AnswerRequest,
    Checked,
    CheckRequest,
    Done,
    Failed,
    FinalMessage,
    LocalJob,
    Merged,
    MergeRequest,
    OutOfMemory,
    Report,
    Scored,
    ScoreRequest,
    TextChunk,
)
from agent.errors import AgentError, NotInstalled
from agent.settings import ComputeSettings
from shared.wire.leases import Progress

log = logging.getLogger(__name__)

DEFAULT_ARGV: tuple[str, ...] = (sys.executable, "-m", "agent.train")
CHILD_NEEDS = ("torch", "transformers", "peft", "trl", "datasets")
"""Looked for, and never imported, in this process."""
_KILLED_EXIT = -9
"""The exit code after SIGKILL; never that of a process on Windows, which has no signals."""
_APART: dict[str, Any] = (
    {"start_new_session": True}
    if os.name == "posix"
    else {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
)
"""Ctrl-C is for the parent, which ends the child in good order."""
_LINE_BYTES = 4 << 20
_STOP_GRACE_S = 5.0


class ChildDied(AgentError):
    """The child ended without an answer. ``out_of_memory`` is set where the kernel's killer is the likely cause."""

    def __init__(self, exit_code: int, log_file: Path) -> None:
        self.exit_code = exit_code
        self.out_of_memory = exit_code in (_KILLED_EXIT, OUT_OF_MEMORY_EXIT)
        how = f"by signal {-exit_code}" if exit_code < 0 else f"with exit code {exit_code}"
        super().__init__(f"the training process ended {how}; the agent's {log_file} says more")


class Supervisor:
    """Starts the child, hands it one job at a time, and reads its answers.

    argv: the child's command, in the place of DEFAULT_ARGV. turn: agents that share the child, in a simulation, hold it
    while they use the child and the files it reads.
    """

    def __init__(self, compute: ComputeSettings, argv: Sequence[str] | None = None) -> None:
        self._argv = tuple(DEFAULT_ARGV if argv is None else argv)
        self.turn = asyncio.Lock()
        self._environment = child_environment(compute)
        self._process: Process | None = None
        self._log_pump: asyncio.Task[None] | None = None
        self._log_file = Path(os.devnull)

    @overload
    async def run(
        self, order: LocalJob, log_file: Path, on_progress: Callable[[Progress], None]
    ) -> Done | Failed | OutOfMemory: ...
    @overload
    async def run(
        self,
        order: AnswerRequest,
        log_file: Path,
        on_progress: Callable[[Progress], None],
        on_text: Callable[[str], None] | None = None,
    ) -> Answered | Failed | OutOfMemory: ...
    @overload
    async def run(
        self, order: ScoreRequest, log_file: Path, on_progress: Callable[[Progress], None]
    ) -> Scored | Failed | OutOfMemory: ...
    @overload
    async def run(
        self, order: CheckRequest, log_file: Path, on_progress: Callable[[Progress], None]
    ) -> Checked | Failed | OutOfMemory: ...
    @overload
    async def run(
        self, order: MergeRequest, log_file: Path, on_progress: Callable[[Progress], None]
    ) -> Merged | Failed | OutOfMemory: ...
    async def run(
        self,
        order: LocalJob | AnswerRequest | ScoreRequest | CheckRequest | MergeRequest,
        log_file: Path,
        on_progress: Callable[[Progress], None],
        on_text: Callable[[str], None] | None = None,
    ) -> FinalMessage:
        """Give the child an order and wait for its last word. Raises ChildDied. Cancelled, it ends the child."""
        self._log_file = log_file
        try:
            process = self._process
            if process is not None and process.returncode is not None:
                await self._end(process)
                process = None
            process = process or await self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(order.model_dump_json().encode() + b"\n")
                await process.stdin.drain()
                answer = await self._answer(process.stdout, on_progress, on_text)
            except (BrokenPipeError, ConnectionResetError):
                answer = None
            if answer is None or isinstance(answer, OutOfMemory):
                exit_code = await self._end(process)
                if answer is None:
                    raise ChildDied(exit_code, log_file)
            return answer
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the child: by the end of its input, or by force where it does not listen."""
        # in a task of its own: before Python 3.11.3 nothing times out in a task that was cancelled
        await asyncio.create_task(self._stop())

    async def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
        await self._end(process)

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LINE_BYTES,
            env=self._environment,
            **_APART,
        )
        assert process.stderr is not None
        self._process = process
        self._log_pump = asyncio.create_task(self._pump(process.stderr))
        log.debug("training child %d started", process.pid)
        return process

    async def _answer(
        self,
        lines: asyncio.StreamReader,
        on_progress: Callable[[Progress], None],
        on_text: Callable[[str], None] | None,
    ) -> FinalMessage | None:
        """The child's last word on an order; None where it ended without one."""
        while True:
            try:
                line = await lines.readline()
                if not line:
                    return None
                answer: Answer = ANSWER.validate_json(line)
            except ValueError:  # pydantic's, and that of a line which does not end
                log.warning("the training child said something that is no message")
                continue
            if isinstance(answer, Report):
                on_progress(answer.progress)
            elif isinstance(answer, TextChunk):
                if on_text is not None:
                    on_text(answer.text)
            else:
                return answer

    async def _pump(self, stderr: asyncio.StreamReader) -> None:
        """Write what the child prints to the log of the task of the moment."""
        while chunk := await stderr.read(1 << 16):
            # a full disk costs the log, not the task: a child whose stderr nobody reads stands still
            with suppress(OSError), self._log_file.open("ab") as file:
                file.write(chunk)

    async def _end(self, process: Process) -> int:
        """Wait for a child that is about to go, by force where it does not; its exit code."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_GRACE_S):
                await process.stdout.read()  # asyncio lets go of a process when its pipes are read to their ends
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


def _kill(process: Process) -> None:
    """Kill the child. On POSIX kill its whole session: processes that it started may hold its pipes open."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def check_installed() -> None:
    """Raise NotInstalled where the libraries of the default child are not there."""
    missing = [name for name in CHILD_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise NotInstalled(missing)


def child_environment(compute: ComputeSettings) -> dict[str, str]:
    """The child's environment: its thread budget, and no threads that spin."""
    environment = {
        **os.environ,
        # two processes that spin in OpenMP on the same cores slow each other tenfold; read when torch is imported
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if compute.threads is not None:
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(compute.threads)
    return environment
