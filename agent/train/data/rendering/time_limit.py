"""A limit on the time of a template, which comes with a model: a loop in it would hold the agent for ever."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TIME_LIMIT_S = 10


class TemplateTookTooLong(Exception):
    """The template was stopped."""


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise TemplateTookTooLong if the block takes longer than TIME_LIMIT_S.

    Signals reach the main thread only, in which a training child works, and Windows has none of this kind: elsewhere
    there is no limit.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TemplateTookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    running = signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_S)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *running)  # another timer goes on
