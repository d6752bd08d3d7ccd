"""``fedloom agent run`` on a terminal of its own: what an owner sees there, and types."""

import contextlib
import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import RECORDED_CHILD, ROOT, wait_until

_SCRIPT = (
    "import sys, json; from pathlib import Path; from agent import main; "
    "from fedloom.cli.agent.asking import terminal_of; home = Path(sys.argv[1]); "
    "main.log_to_stderr(); main.run(home, json.loads(sys.argv[2]), terminal_of(home))"
)

_IN_BACKGROUND = (
    "import signal, subprocess, sys; job = subprocess.Popen([sys.executable, *sys.argv[1:]], process_group=0); "
    "signal.signal(signal.SIGINT, lambda *_: job.send_signal(signal.SIGINT)); sys.exit(job.wait())"
)


class OwnersScreen:
    """A command as the foreground job of a terminal with 80 columns."""

    def __init__(self, *argv: str) -> None:
        self._end, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, b"\x18\x00\x50\x00\x00\x00\x00\x00")  # 24 rows, 80 columns
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        self.process = subprocess.Popen(
            [sys.executable, *argv],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=ROOT,
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(inner)
        self._text = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that was shown so far."""
        return self._text.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, pattern: str, timeout_s: float = 60) -> re.Match[str]:
        """Wait until what is shown matches. Returns the match."""
        return wait_until(
            lambda: re.search(pattern, self.text), f"{pattern!r} in {self.text}", timeout_s, self._is_over
        )

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def press_ctrl_c(self) -> int:
        """End it from the keyboard. Returns its exit code."""
        self.type("\x03")
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    def wait_until_read(self) -> None:
        """Wait until all that an ended process showed is in ``text``."""
        self._reader.join(5)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(5)
        os.close(self._end)

    def _is_over(self) -> str | None:
        code = self.process.poll()
        return f"the process ended with {code}: {self.text}" if code is not None else None

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the terminal's end, once the process is gone
            while piece := os.read(self._end, 1 << 16):
                self._text += piece


@contextmanager
def owners_screen(home: Path, *, in_background: bool = False) -> Iterator[OwnersScreen]:
    """An agent with a recorded child on a terminal. It is killed when the block ends.

    in_background: as a shell's job that was started with &.
    """
    argv = ["-c", _SCRIPT, str(home), json.dumps(RECORDED_CHILD)]
    with on_terminal(*(["-c", _IN_BACKGROUND, *argv] if in_background else argv)) as screen:
        yield screen


@contextmanager
def on_terminal(*argv: str) -> Iterator[OwnersScreen]:
    """Python with these arguments on a terminal. It is killed when the block ends."""
    screen = OwnersScreen(*argv)
    try:
        yield screen
    finally:
        screen.close()
