"""Fork servers as their clients see them: each starts when it is first needed, and ends with this process."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, ClassVar

ROOT = Path(__file__).resolve().parents[3]
STAND_IN = Path(__file__).with_name("stand_in.py")


class Server:
    """The fork server that is the main program of *module*."""

    def __init__(self, module: str, **environment: str) -> None:
        self._module = module
        self._environment = environment

    @cached_property
    def address(self) -> str:
        """The path of its socket. Who connects before it has imported everything waits."""
        folder = tempfile.TemporaryDirectory(prefix="forks-")
        path = f"{folder.name}/socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen(128)
            process = subprocess.Popen(
                [sys.executable, "-m", self._module, str(listener.fileno())],
                stdin=subprocess.PIPE,
                cwd=ROOT,
                env={**os.environ, **self._environment},
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C is for the tests, whose end it sees
            )
        assert process.stdin is not None
        for last in (folder.cleanup, process.wait, process.stdin.close):  # called from the last to the first
            atexit.register(last)
        return path

    def stand_in(self, *argv: str) -> list[str]:
        """A command that does what ``python ARGV...`` does, by a forked process."""
        return [sys.executable, "-I", "-S", str(STAND_IN), self.address, *argv]


class Forked:
    """A forked process, as ``subprocess.Popen`` has it."""

    server: ClassVar[Server]
    _connections: ClassVar[set[socket.socket]] = set()
    """Kept, because a process ends with its connection, and should not with this object."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        stdout: IO[bytes] | int,
        stderr: IO[bytes] | int,
        env: Mapping[str, str],
        cwd: Path = ROOT,
    ) -> None:
        """argv: begins with the interpreter. Streams are files or their descriptors."""
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(self.server.address)
        self._connections.add(self._connection)
        order = json.dumps({"argv": list(argv[1:]), "env": dict(env), "cwd": str(cwd)}).encode()
        with Path(os.devnull).open("rb") as nothing:
            streams = [nothing if stream == subprocess.DEVNULL else stream for stream in (stdin, stdout, stderr)]
            numbers = [stream if isinstance(stream, int) else stream.fileno() for stream in streams]
            socket.send_fds(self._connection, [order], numbers)
        self.pid = self._told(None)

    def poll(self) -> int | None:
        """The exit code, or minus the signal, once it has ended."""
        try:
            return self._end(0)
        except BlockingIOError:
            return None

    def wait(self, timeout: float | None = None) -> int:
        try:
            return self._end(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _end(self, timeout: float | None) -> int:
        if self.returncode is None:
            self.returncode = self._told(timeout)
            self._connections.discard(self._connection)
            self._connection.close()
        return self.returncode

    def _told(self, timeout: float | None) -> int:
        self._connection.settimeout(timeout)
        told = self._connection.recv(64)
        assert told, f"the fork server of {self.server._module} is gone"
        return int(told)
