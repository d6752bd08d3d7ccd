"""Lines that a person types at a terminal, read in a thread of their own without ever holding up the process."""

import os
import select
import sys
import time
from collections.abc import Callable

POLL_S = 0.3


class TypedLines:
    """The terminal on standard input.

    Reads only while this process is in the foreground of its terminal: a job in the background would be stopped by the
    attempt. Where a terminal cannot be polled (Windows), a question ends with the next line only.
    """

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()
        self._begun = b""
        self._has_stale = False

    def skip(self) -> None:
        """Throw away what was typed before a question was shown: it answers nothing."""
        self._begun = b""
        self._has_stale = sys.platform != "win32"
        self._drop_stale()

    def next(self, is_over: Callable[[], bool]) -> str | None:
        """The next line; "" at the end of input (Ctrl-D). None once *is_over*, which is asked a few times a second."""
        while not is_over():
            if not self._is_readable():
                continue
            piece = os.read(self._input, 4096)  # not by sys.stdin, whose lock would outlive this thread
            if not piece:
                return ""
            self._begun += piece
            line, end, rest = self._begun.partition(b"\n")
            if end:
                self._begun = rest
                return line.decode(errors="replace").strip()
        return None

    def _is_readable(self) -> bool:
        """Whether a line can be read now; waits a moment for one."""
        if sys.platform == "win32":
            return True
        self._drop_stale()
        if self._has_stale or not self._is_in_foreground():
            time.sleep(POLL_S)
            return False
        readable, _, _ = select.select([self._input], [], [], POLL_S)
        return bool(readable) and self._is_in_foreground()

    def _drop_stale(self) -> None:
        """Drop what waits unread, once this process may: a job in the background would be stopped by this too."""
        if self._has_stale and self._is_in_foreground():
            import termios

            termios.tcflush(self._input, termios.TCIFLUSH)
            self._has_stale = False

    def _is_in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._input) == os.getpgrp()
        except OSError:  # the terminal is gone
            return False


def is_terminal() -> bool:
    """Whether a person can be asked: standard input and standard error are a terminal."""
    streams = (sys.stdin, sys.stderr)
    return all(each is not None and each.isatty() for each in streams)
