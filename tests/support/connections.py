"""Records every connection that a command and its children try to make."""

from pathlib import Path

_RECORDER = """
import os, sys

LOG = {log!r}

def _note(line):
    with open(LOG, "a") as file:
        file.write(line + os.linesep)

def _hook(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        _note(f"connect {{arguments[1]}}")
    elif event in ("socket.sendto", "socket.getaddrinfo"):
        _note(f"{{event}} {{arguments[:2]!r}}")

_note("started")
sys.addaudithook(_hook)
"""


class Connections:
    """What processes with ``environment`` connect to. folder: for the recorder's files. root: of the code."""

    def __init__(self, folder: Path, root: Path) -> None:
        folder.mkdir()
        self._log = folder / "connections.txt"
        (folder / "sitecustomize.py").write_text(_RECORDER.format(log=str(self._log)))
        self.environment = {"PYTHONPATH": f"{folder}:{root}"}

    @property
    def n_processes(self) -> int:
        """How many processes were recorded."""
        return self._lines().count("started")

    @property
    def made(self) -> list[str]:
        """The connections that were tried."""
        return [line for line in self._lines() if line != "started"]

    def _lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []
