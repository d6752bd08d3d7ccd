"""A process that imports heavy modules once and forks children that start at once.

A client connects to the server's socket and sends a command with its standard streams. The server replies with the
child's process id and, later, its exit code. A child is killed when its connection closes. The server exits when its
standard input closes.
"""

import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from shared import crash_points

_COMMAND_BYTES = 1 << 18


class ForkServer:
    """Serves one listening socket. adopt: called in each forked process after its environment is set."""

    def __init__(self, listener: socket.socket, adopt: Callable[[], None]) -> None:
        self._listener = listener
        self._adopt = adopt
        self._running: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ, self._exit)
        self._selector.register(listener, selectors.EVENT_READ, self._start)

    def serve(self) -> NoReturn:
        gc.freeze()  # memory pages that the collector does not touch stay shared
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")  # about modules imported already
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _exit(self) -> NoReturn:
        for pid in self._running:
            _kill(pid)
        os._exit(0)

    def _start(self) -> None:
        connection, _ = self._listener.accept()
        message, streams, _, _ = socket.recv_fds(connection, _COMMAND_BYTES, 3)
        if not message:  # the client left before it sent a command
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self._run_child(json.loads(message), streams)
        for descriptor in streams:
            os.close(descriptor)
        self._running[pid] = connection
        ended = os.pidfd_open(pid)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._abandon(pid))
        self._selector.register(ended, selectors.EVENT_READ, lambda: self._report_exit(pid, ended))
        with suppress(OSError):
            connection.send(str(pid).encode())

    def _abandon(self, pid: int) -> None:
        """Kill a process whose client disconnected, unless it has just ended."""
        if pid in self._running:
            self._selector.unregister(self._running[pid])
            _kill(pid)

    def _report_exit(self, pid: int, ended: int) -> None:
        self._selector.unregister(ended)
        os.close(ended)
        _, status = os.waitpid(pid, 0)
        connection = self._running.pop(pid)
        with suppress(KeyError):
            self._selector.unregister(connection)
        with suppress(OSError):
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        connection.close()

    def _run_child(self, command: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
        code = 1
        try:
            os.setsid()
            for held in (self._listener, *self._running.values()):
                held.close()
            self._selector.close()
            _take_streams(streams)
            os.chdir(command["cwd"])
            os.environ.clear()
            os.environ.update(command["env"])
            _open_streams()
            _extend_path(os.environ.get("PYTHONPATH", ""))
            random.seed()
            crash_points._watching = crash_points._watch()
            self._adopt()
            code = _run(command["argv"])
        except BaseException:
            traceback.print_exc()
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _kill(pid: int) -> None:
    """Kill a process and its process group."""
    for end in (os.kill, os.killpg):
        with suppress(ProcessLookupError):
            end(pid, signal.SIGKILL)


def _take_streams(streams: Sequence[int]) -> None:
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _open_streams() -> None:
    """Open Python's standard streams as at its start: line-buffered for a terminal."""
    opened = partial(open, closefd=False)
    sys.stdin = opened(0)
    sys.stdout = opened(1, "w")
    sys.stdout.reconfigure(write_through=bool(os.environ.get("PYTHONUNBUFFERED")))
    sys.stderr = opened(2, "w", buffering=1, errors="backslashreplace")


def _extend_path(python_path: str) -> None:
    sys.path[:0] = [entry for entry in python_path.split(os.pathsep) if entry and entry not in sys.path]
    importlib.invalidate_caches()


def _run(argv: Sequence[str]) -> int:
    """Do what ``python ARGV...`` does. Returns its exit code."""
    option, target, *rest = argv
    sys.argv = [target if option == "-m" else option, *rest]
    try:
        if option == "-m":
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            exec(compile(target, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def main(modules: Sequence[str], adopt: Callable[[], None]) -> NoReturn:
    """Import the modules and serve the inherited socket whose descriptor is the first argument."""
    for name in modules:
        importlib.import_module(name)
    ForkServer(socket.socket(fileno=int(sys.argv[1])), adopt).serve()
