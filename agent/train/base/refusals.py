"""Failures of a base model, in words that may leave this machine."""

from agent.errors import TaskFailed
from shared.wire.tasks.leases import FailureKind


def unusable(message: str, error: BaseException | None = None) -> TaskFailed:
    """Return the failure of a base model that cannot be used.

    message: why, and what to do. error: of a library or the system, which caused it. Its type leaves this machine; its
    text, in which libraries name files, is for the owner alone.
    """
    if error is None:
        return TaskFailed(FailureKind.BASE_MODEL, message)
    return TaskFailed(
        FailureKind.BASE_MODEL, f"{message} ({type(error).__name__})", f"{message} ({_first_line(error)})"
    )


def untrainable(reason: str) -> TaskFailed:
    """Return the failure of a base model that can be loaded but not trained."""
    return unusable(f"the base model cannot be trained: {reason}")


def _first_line(error: BaseException) -> str:
    """The type of an error and the first line of its text."""
    line = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
