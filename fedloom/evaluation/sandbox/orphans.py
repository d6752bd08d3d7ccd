"""Reaps what bubblewrap leaves. In a container its orphans may be given to a process that reaps nobody."""

import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SET_SUBREAPER, _GET_SUBREAPER = 36, 37
_SECONDS = 5.0
"""How long an orphan may take to end once bubblewrap has ended."""
_lock = threading.Lock()
_n_users = 0
_was_subreaper = 0


@contextmanager
def adopted() -> Iterator[None]:
    """Orphans of this process's children become its own children in the block. On Linux; elsewhere nothing is done."""
    if sys.platform != "linux":
        yield
        return
    global _n_users, _was_subreaper
    with _lock:
        if _n_users == 0:
            _was_subreaper = _subreaper()
            _set_subreaper(1)
        _n_users += 1
    try:
        yield
    finally:
        with _lock:
            _n_users -= 1
            if _n_users == 0:
                _set_subreaper(_was_subreaper)


def reap_namespace(info: int) -> None:
    """Wait for the first process of a namespace whose bubblewrap has ended. No other child is waited for.

    info: where bubblewrap wrote the pid; it is closed.
    """
    try:
        os.set_blocking(info, False)
        pid = int(json.loads(os.read(info, 4096))["child-pid"])
    except (OSError, ValueError, KeyError):  # it ended before it had a namespace
        return
    finally:
        os.close(info)
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except ChildProcessError:  # it was not adopted, or is reaped
            return
        time.sleep(0.001)


def _subreaper() -> int:
    found = ctypes.c_int()
    ctypes.CDLL(None).prctl(_GET_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return found.value


def _set_subreaper(value: int) -> None:
    ctypes.CDLL(None).prctl(_SET_SUBREAPER, value, 0, 0, 0)
