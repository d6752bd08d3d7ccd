"""A process that has imported much, and forks others that start at once.

Whoever connects to its socket sends what to run, and its standard streams. What is forked lives no longer than the
connection, by which its number is told, and then how it ended. The server ends with its own input.
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

_ORDER_BYTES = 1 << 18


class ForkServer:
    """Serves one listening socket. adopt: called in each forked process, when its environment is in place."""

    def __init__(self, listener: socket.socket, adopt: Callable[[], None]) -> None:
        self._listener = listener
        self._adopt = adopt
        self._running: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ, self._leave)
        self._selector.register(listener, selectors.EVENT_READ, self._start)

    def serve(self) -> NoReturn:
        gc.freeze()  # pages that no collection touches stay shared
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")  # modules run that are imported
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _leave(self) -> NoReturn:
        for pid in self._running:
            _kill(pid)
        os._exit(0)

    def _start(self) -> None:
        connection, _ = self._listener.accept()
        message, streams, _, _ = socket.recv_fds(connection, _ORDER_BYTES, 3)
        if not message:  # gone before it asked
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self._become(json.loads(message), streams)
        for descriptor in streams:
            os.close(descriptor)
        self._running[pid] = connection
        ended = os.pidfd_open(pid)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._let_go(pid))
        self._selector.register(ended, selectors.EVENT_READ, lambda: self._tell(pid, ended))
        with suppress(OSError):
            connection.send(str(pid).encode())

    def _let_go(self, pid: int) -> None:
        """Nobody waits for the process any more: end it, unless it ended in the same moment."""
        if pid in self._running:
            self._selector.unregister(self._running[pid])
            _kill(pid)

    def _tell(self, pid: int, ended: int) -> None:
        self._selector.unregister(ended)
        os.close(ended)
        _, status = os.waitpid(pid, 0)
        connection = self._running.pop(pid)
        with suppress(KeyError):
            self._selector.unregister(connection)
        with suppress(OSError):
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        connection.close()

    def _become(self, order: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
        code = 1
        try:
            os.setsid()
            for held in (self._listener, *self._running.values()):
                held.close()
            self._selector.close()
            _take_streams(streams)
            os.chdir(order["cwd"])
            os.environ.clear()
            os.environ.update(order["env"])
            _open_streams()
            _extend_path(os.environ.get("PYTHONPATH", ""))
            random.seed()
            crash_points._watching = crash_points._watch()
            self._adopt()
            code = _run(order["argv"])
        except BaseException:
            traceback.print_exc()
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _kill(pid: int) -> None:
    """End a process, and those that it started in its session."""
    for end in (os.kill, os.killpg):
        with suppress(ProcessLookupError):
            end(pid, signal.SIGKILL)


def _take_streams(streams: Sequence[int]) -> None:
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _open_streams() -> None:
    """Python's streams anew, as it opens them when it starts: a terminal is written to line by line."""
    opened = partial(open, closefd=False)
    sys.stdin = opened(0)
    sys.stdout = opened(1, "w")
    sys.stdout.reconfigure(write_through=bool(os.environ.get("PYTHONUNBUFFERED")))
    sys.stderr = opened(2, "w", buffering=1, errors="backslashreplace")


def _extend_path(python_path: str) -> None:
    sys.path[:0] = [entry for entry in python_path.split(os.pathsep) if entry and entry not in sys.path]
    importlib.invalidate_caches()


def _run(argv: Sequence[str]) -> int:
    """What ``python ARGV...`` does; its exit code."""
    option, what, *rest = argv
    sys.argv = [what if option == "-m" else option, *rest]
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def main(modules: Sequence[str], adopt: Callable[[], None]) -> NoReturn:
    """Import the modules and serve the socket that is this process's by inheritance, with its number as argument."""
    for name in modules:
        importlib.import_module(name)
    ForkServer(socket.socket(fileno=int(sys.argv[1])), adopt).serve()
