"""Clients of fork servers. A server starts at its first use and ends with this process."""

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
    """A fork server whose main program is *module*."""

    def __init__(self, module: str, **environment: str) -> None:
        self._module = module
        self._environment = environment

    @cached_property
    def address(self) -> str:
        """Path of its socket. A client that connects during its imports waits."""
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
                start_new_session=True,  # Ctrl-C reaches the tests alone; the server ends with them
            )
        assert process.stdin is not None
        for cleanup in (folder.cleanup, process.wait, process.stdin.close):  # called in reverse order
            atexit.register(cleanup)
        return path

    def stand_in(self, *argv: str) -> list[str]:
        """A command that runs ``python ARGV...`` in a forked process."""
        return [sys.executable, "-I", "-S", str(STAND_IN), self.address, *argv]


class Forked:
    """A forked process with the interface of ``subprocess.Popen``."""

    server: ClassVar[Server]
    _connections: ClassVar[set[socket.socket]] = set()
    """Open connections. A process ends with its connection, which must outlive this object."""

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
        """argv: begins with the interpreter. stdin, stdout, stderr: files or descriptors."""
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(self.server.address)
        self._connections.add(self._connection)
        command = json.dumps({"argv": list(argv[1:]), "env": dict(env), "cwd": str(cwd)}).encode()
        with Path(os.devnull).open("rb") as nothing:
            streams = [nothing if stream == subprocess.DEVNULL else stream for stream in (stdin, stdout, stderr)]
            numbers = [stream if isinstance(stream, int) else stream.fileno() for stream in streams]
            socket.send_fds(self._connection, [command], numbers)
        self.pid = self._receive_number(None)

    def poll(self) -> int | None:
        """The exit code, or minus the signal number. Returns None while the process runs."""
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
            self.returncode = self._receive_number(timeout)
            self._connections.discard(self._connection)
            self._connection.close()
        return self.returncode

    def _receive_number(self, timeout: float | None) -> int:
        self._connection.settimeout(timeout)
        received = self._connection.recv(64)
        assert received, f"the fork server of {self.server._module} is gone"
        return int(received)
