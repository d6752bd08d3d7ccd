"""Named points at which a test of faults kills the process, to see that nothing is lost there.

    FEDLOOM_CRASH_AT       NAME, or NAME#N for the N-th time that it is reached: SIGKILL
    FEDLOOM_CRASH_NOTES    a file. The name is added to it before the kill; a process that finds it there lives on, so
                           that whoever is started again in the same environment is killed once. With the name ``*``
                           nobody is killed, and every point that is reached is added: which points there are.

Outside of such a test a point costs one comparison.
"""

import os
import signal
from collections import Counter
from pathlib import Path

_ALL = "*"


class _Watch:
    """Counts how often points were reached."""

    def __init__(self, at: str, notes: Path) -> None:
        self._name, _, nth = at.partition("#")
        self._nth = int(nth or 1)
        self._services = at
        self._notes = notes
        self._reached: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        self._reached[name] += 1
        if self._name == _ALL:
            if self._reached[name] == 1:
                self._note(name)
        elif name == self._name and self._reached[name] == self._nth and self._services not in self._noted():
            self._note(self._services)
            os.kill(os.getpid(), signal.SIGKILL)

    def _noted(self) -> list[str]:
        return self._notes.read_text(encoding="utf-8").splitlines() if self._notes.exists() else []

    def _note(self, line: str) -> None:
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


def _watch() -> _Watch | None:
    at, notes = os.environ.get("FEDLOOM_CRASH_AT"), os.environ.get("FEDLOOM_CRASH_NOTES")
    return _Watch(at, Path(notes)) if at and notes else None


_watching = _watch()


def reach(name: str) -> None:
    """Say that the point of that name is reached."""
    if _watching is not None:
        _watching.reach(name)
