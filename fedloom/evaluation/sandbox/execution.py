"""The processes of one program, from their start to the verdict."""

import json
import select
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from fedloom.evaluation.sandbox.channel import NOT_STARTED, Channel
from fedloom.evaluation.sandbox.limits import Limits
from fedloom.evaluation.sandbox.process import Process
from fedloom.evaluation.sandbox.program import Kind, Program, Result, WholeProgram

POLL_SECONDS = 0.2
"""How often a run that is to stop is noticed."""

KINDS = {"failed": Kind.FAILED, "memory": Kind.OUT_OF_MEMORY, "broken": Kind.HARNESS_ERROR}

NO_TESTS_LEFT = ("broken", "the process of the tests ended without a verdict")
TOO_EARLY = ("failed", "it ended before its last assert")


class Stopped(Exception):
    """The run is to stop."""


class Execution:
    """The processes of one program, and our channels to them. They are killed when *opened* closes.

    Args:
        opened: closes what this opens.
        token: what must be printed after the last assert.
        limits: of each process.
        bubblewrap: its path and first options; None to run without isolation.
        stop: set to have ``follow`` raise Stopped.
    """

    def __init__(
        self, opened: ExitStack, token: str, limits: Limits, bubblewrap: Sequence[str] | None, stop: threading.Event
    ) -> None:
        self._opened = opened
        self._token = token
        self._limits = limits
        self._bubblewrap = bubblewrap
        self._stop = stop
        self._processes: list[Process] = []
        self._channels: list[Channel] = []
        self._selector = opened.enter_context(selectors.DefaultSelector())

    def start_two(self, program: Program) -> None:
        """Start answer and tests. Nothing that the answer's process can write to is taken as a verdict."""
        to_tests, to_answer = socket.socketpair()
        with self._open_channel(None) as started, self._open_channel(NO_TESTS_LEFT) as verdict, to_tests, to_answer:
            answer = {"answer": program.answer, "prelude": program.prelude}
            self._start("answer_side", answer, [to_tests, started], program.libraries)
            tests = {"tests": program.tests, "support": program.support, "names": program.names, "token": self._token}
            self._start("tests_side", tests, [to_answer, verdict], program.libraries)

    def start_one(self, program: WholeProgram) -> None:
        """Start a program that holds its tests."""
        with self._open_channel(TOO_EARLY) as verdict:
            self._start("whole_side", {"program": program.program}, [verdict], program.libraries)

    def follow(self, seconds: float) -> Result:
        """Wait for the verdict, *seconds* from when all have started. Raises Stopped."""
        begun: float | None = None
        deadline = time.monotonic() + self._limits.start_seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._stop.is_set():
                raise Stopped
            for channel, kind, detail in self._receive(min(left, POLL_SECONDS)):
                if kind == "finished":
                    channel.socket.sendall(json.dumps(self._token).encode())
                elif kind != "started":
                    if kind not in ("passed", "broken") and not self._all_did_start():
                        kind, detail = NOT_STARTED
                    return self._result(kind, detail, begun)
            if begun is None and all(channel.has_started for channel in self._channels):
                begun = time.monotonic()
                deadline = begun + seconds
        if begun is None:
            return self._result("broken", f"no start within {self._limits.start_seconds:g} s", None)
        return Result(Kind.TIMED_OUT, f"no end within {seconds:g} s", self._processes[0].printed(), seconds)

    def _all_did_start(self) -> bool:
        """Whether all processes have started, even if that message of some has not been read yet.

        The tests may report the end of the answer's process before we see it end.
        """
        for channel in self._channels:
            if not channel.has_started and select.select([channel.socket], [], [], POLL_SECONDS)[0]:
                channel.receive()
        return all(channel.has_started for channel in self._channels)

    def _receive(self, seconds: float) -> list[tuple[Channel, str, Any]]:
        """Wait *seconds* at most. Returns the messages by channel; what processes print is kept by them."""
        received = []
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, Process):
                if not key.data.read():
                    self._selector.unregister(key.fileobj)
                continue
            channel: Channel = key.data
            for kind, detail in channel.receive():
                if kind == "ended":
                    self._selector.unregister(key.fileobj)
                else:
                    received.append((channel, kind, detail))
        return received

    def _open_channel(self, at_end: tuple[str, str] | None) -> socket.socket:
        """Open a channel to a process that is about to start. Returns its end."""
        ours, theirs = socket.socketpair()
        self._opened.enter_context(ours)
        channel = Channel(ours, at_end, can_be_forged=at_end is not NO_TESTS_LEFT)
        self._channels.append(channel)
        self._selector.register(ours, selectors.EVENT_READ, channel)
        return theirs

    def _start(self, module: str, job: dict[str, Any], ends: list[socket.socket], libraries: tuple[str, ...]) -> None:
        descriptors = [end.fileno() for end in ends]
        process = Process(module, job, descriptors, self._limits, libraries, self._bubblewrap)
        self._opened.callback(process.kill)
        self._processes.append(process)
        self._selector.register(process.output, selectors.EVENT_READ, process)

    def _result(self, kind: str, content: Any, begun: float | None) -> Result:
        """The result that a verdict stands for. One without the token is none.

        A short program may have its verdict before it was seen to have started: *begun* is None then too.
        """
        seconds = time.monotonic() - begun if begun is not None else 0.0
        if kind == "passed" and content == self._token:
            return Result(Kind.PASSED, "", self._processes[0].printed(), seconds)
        detail = " ".join(str(content).split())[:500] if kind in KINDS else "a verdict without the token"
        found = KINDS.get(kind, Kind.FAILED)
        if found is Kind.HARNESS_ERROR:
            printed = " ".join(" ".join(process.printed().split()) for process in self._processes).strip()
            detail = f"{detail}: {printed[-500:]}" if printed else detail
        return Result(found, detail, self._processes[0].printed(), seconds)
