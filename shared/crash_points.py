"""Named points at which fault tests kill the process, to show that nothing is lost there.

    FEDLOOM_CRASH_AT       NAME, or NAME#N for the N-th time that the point is reached: sends SIGKILL. ``*`` kills
                           nothing and records every point that is reached, which lists the existing points.
    FEDLOOM_CRASH_NOTES    a file. The value of FEDLOOM_CRASH_AT is appended to it before the kill. A process that finds
                           it there is not killed, so a restart in the same environment survives.

Outside of fault tests a point costs one comparison.
"""

import os
import signal
from collections import Counter
from pathlib import Path

_ALL = "*"


class _Watch:
    """Counts how often each point was reached, and kills the process at the chosen one."""

    def __init__(self, crash_at: str, notes: Path) -> None:
        self._name, _, nth = crash_at.partition("#")
        self._nth = int(nth or 1)
        self._crash_at = crash_at
        self._notes = notes
        self._reached: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        self._reached[name] += 1
        if self._name == _ALL:
            if self._reached[name] == 1:
                self._note(name)
        elif name == self._name and self._reached[name] == self._nth and self._crash_at not in self._noted():
            self._note(self._crash_at)
            os.kill(os.getpid(), signal.SIGKILL)

    def _noted(self) -> list[str]:
        return self._notes.read_text(encoding="utf-8").splitlines() if self._notes.exists() else []

    def _note(self, line: str) -> None:
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


def _watch() -> _Watch | None:
    crash_at, notes = os.environ.get("FEDLOOM_CRASH_AT"), os.environ.get("FEDLOOM_CRASH_NOTES")
    return _Watch(crash_at, Path(notes)) if crash_at and notes else None


_watching = _watch()


def reach(name: str) -> None:
    """Mark a point as reached."""
    if _watching is not None:
        _watching.reach(name)
