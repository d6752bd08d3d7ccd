"""Failures of a base model, in words that may leave this machine."""

import contextlib
import re

from agent.errors import TaskFailed
from shared.wire.leases import FailureKind

_PATH = re.compile(r"(?:\b[A-Za-z]:)?(?:[\\/]|file:|https?:)[^\s'\",;]*")


def unusable(message: str) -> TaskFailed:
    """Return the failure of a base model that cannot be used. message: why, and what to do."""
    return TaskFailed(FailureKind.BASE_MODEL, message)


def untrainable(reason: str) -> TaskFailed:
    """Return the failure of a base model that can be loaded but not trained."""
    return unusable(f"the base model cannot be trained: {reason}")


def first_line(error: BaseException) -> str:
    """Return the type of a library's error and the first line of its text, without the paths of this machine."""
    with contextlib.suppress(IndexError):
        line = _PATH.sub("…", str(error).strip().splitlines()[0])
        return f"{type(error).__name__}: {line.rstrip('.')}"
    return type(error).__name__
