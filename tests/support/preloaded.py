"""Processes that start at once: forked from one that has imported the coordinator and the agent's parent.

A test that starts eighty of them would otherwise import for minutes. What runs is the same command in a process of its
own; but agents started so ask again at once after a cut, so that nobody waits for their jitter.
"""

import atexit
import importlib
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

from agent import retry
from shared import crash_points

ROOT = Path(__file__).resolve().parents[2]
AGAIN_S = 0.2
_LOOK_S = 0.005
_MODULES = (
    *("fedloom.cli", "coordinator.main", "agent.main", "migrations"),
    # what libraries import when they are used
    *("aiosqlite", "asyncpg", "uvicorn.lifespan.on", "uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl"),
    *("sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.postgresql.asyncpg"),
)


class Preloaded:
    """A started process, as ``subprocess.Popen`` has it."""

    def __init__(
        self, argv: Sequence[str], *, stdout: IO[bytes], env: Mapping[str, str], cwd: Path, **_: object
    ) -> None:
        self.returncode: int | None = None
        descriptor, name = tempfile.mkstemp(dir=_folder())
        os.close(descriptor)
        self._status = Path(name)
        order = {"argv": list(argv), "log": stdout.name, "env": dict(env), "cwd": str(cwd), "status": name}
        server = _server()
        assert server.stdin is not None
        server.stdin.write(json.dumps(order).encode() + b"\n")
        server.stdin.flush()
        while not (lines := self._lines()):
            assert server.poll() is None, "the process with everything imported is gone"
            time.sleep(_LOOK_S)
        self.pid = int(lines[0])

    def poll(self) -> int | None:
        """The exit code, or minus the signal, once it has ended."""
        if self.returncode is None and len(lines := self._lines()) > 1:
            self.returncode = int(lines[1])
        return self.returncode

    def wait(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(_LOOK_S)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _lines(self) -> list[str]:
        return [line for line in self._status.read_text().splitlines(keepends=True) if line.endswith("\n")]


@cache
def _folder() -> str:
    folder = tempfile.TemporaryDirectory(prefix="preloaded-")
    atexit.register(folder.cleanup)
    return folder.name


@cache
def _server() -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-m", "tests.support.preloaded"]
    server = subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=ROOT)
    assert server.stdin is not None
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return server


def _run(argv: Sequence[str]) -> None:
    """What ``python ARGV...`` does."""
    _, option, what, *rest = argv
    sys.argv = [what if option == "-m" else option, *rest]
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def _become(order: Mapping[str, Any]) -> NoReturn:
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    random.seed()
    crash_points._watching = crash_points._watch()
    retry.BASE_S = retry.CAP_S = AGAIN_S
    code = 0
    try:
        _run(order["argv"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _start(order: Mapping[str, Any]) -> NoReturn:
    """Start a process, say its number, wait for it, and say how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        _become(order)
    with Path(order["status"]).open("w") as status:
        print(pid, file=status, flush=True)
        _, ended = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(ended), file=status, flush=True)
    os._exit(0)


def main() -> None:
    for name in _MODULES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    for line in sys.stdin:
        if os.fork() == 0:
            _start(json.loads(line))


if __name__ == "__main__":
    main()
