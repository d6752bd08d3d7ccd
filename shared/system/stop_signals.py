"""Signals that ask a process to stop: SIGTERM, and SIGHUP when its terminal or its SSH session is closed."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


def hangup_signals() -> tuple[int, ...]:
    """SIGHUP. Empty where there is none, and for a process that was started to outlive its terminal, as by nohup."""
    number = getattr(signal, "SIGHUP", None)
    return () if number is None or signal.getsignal(number) is signal.SIG_IGN else (number,)


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do in this block what Ctrl-C does: raise KeyboardInterrupt in the main thread.

    Without it they end the process at once, whatever it holds. A service of its own may replace the handlers.
    """
    replaced: list[tuple[int, Any]] = []

    def interrupt(_number: int, _frame: object) -> None:
        for hangup in hangup_signals():  # the kernel and the shell each send one; the second must not cut the end short
            signal.signal(hangup, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, *hangup_signals()):
            if (before := signal.getsignal(number)) is signal.SIG_DFL:
                replaced.append((number, before))
                signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, before in replaced:
            signal.signal(number, before)
