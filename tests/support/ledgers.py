"""What an agent sent, by its own ledger; and connections of tests that have no agent."""

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from agent.ledger.entries import Entry, Request
from agent.ledger.files import FOLDER, Head, LedgerFiles, entries
from agent.ledger.ledger import Ledger
from agent.ledger.outbound import Purpose
from agent.network.api import CoordinatorApi

NO_LEDGER = Head()
"""The head of a ledger without entries."""
_FILES = ("adapter", "delta", "extras")


class _Throwaway(Ledger):
    """A ledger that nobody reads, gone with its folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ledger")
        super().__init__(Path(self._folder.name))


def api_of(url: str, secret: str | None = None, **options: Any) -> CoordinatorApi:
    """A connection whose ledger nobody reads, unless one is given."""
    return CoordinatorApi(url, secret, **{"ledger": _Throwaway(), **options})


def ledger_of(home: Path) -> list[Entry]:
    """The entries of an agent's ledger."""
    return [entry for entry, _ in entries(LedgerFiles(home / FOLDER))]


def ledger_text(home: Path) -> str:
    """The whole ledger as it is written; empty if there is none."""
    return "".join(path.read_text() for path in LedgerFiles(home / FOLDER).all())


def sent(home: Path, what: str) -> list[dict[str, Any]]:
    """The bodies of requests of one purpose, or the files of one kind whose upload began, each once."""
    purpose = Purpose.UPLOAD if what in _FILES else Purpose(what)
    found: list[dict[str, Any]] = []
    for entry in ledger_of(home):
        if isinstance(entry.says, Request) and entry.says.purpose is purpose:
            said = entry.says.body if purpose is not Purpose.UPLOAD else _file_of(entry.says)
            if (purpose is not Purpose.UPLOAD or said["purpose"] == what) and said not in found:
                found.append(said)
    return found


def _file_of(start: Request) -> dict[str, Any]:
    """What the start of an upload says of its file."""
    file: dict[str, Any] = dict(parse_qsl(urlsplit(start.path).query))
    return {**file, "n_bytes": int(file["n_bytes"])}
