"""What an agent sent, by its own ledger; and connections of tests that have no agent."""

import tempfile
from pathlib import Path
from typing import Any

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
    """The bodies of requests of one purpose, or of the uploads of one kind of file, each once."""
    purpose = Purpose.UPLOAD if what in _FILES else Purpose(what)
    found: list[dict[str, Any]] = []
    for entry in ledger_of(home):
        if isinstance(entry.says, Request) and entry.says.purpose is purpose:
            body = entry.says.body
            if (purpose is not Purpose.UPLOAD or body["purpose"] == what) and body not in found:
                found.append(body)
    return found
