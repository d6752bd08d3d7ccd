"""The one place that reads what the drivers raise: the database is away, or it cannot store a value.

Drivers are told apart by what they raise, a SQLSTATE or SQLite's code, so neither needs to be installed for the other.
"""

import sqlite3
from collections.abc import Mapping

from sqlalchemy.engine import ExceptionContext

from coordinator.database.address import Address
from coordinator.errors import DatabaseAway, Unstorable

_AWAY_CLASSES = ("08", "53", "58")
"""SQLSTATE classes: connection exception, insufficient resources, system error."""
_AWAY: Mapping[str, str] = {
    "25006": "it is read-only",
    "53300": "it has no connection left",
    "55P03": "a lock was not free in time",
    "57014": "a statement took too long",
    "57P01": "it was shut down",
    "57P02": "it crashed",
    "57P03": "it is starting up or shutting down",
    "57P04": "the database was dropped",
    "57P05": "it closed an idle connection",
}
_ONLY_WRITES = frozenset({"25006", "55P03", "57014"})
_DISK_FULL = "53100"
_DATA_CLASS = "22"
CONSTRAINT_CLASS = "23"
"""SQLSTATE class: a constraint refuses a row."""

_SQLITE_AWAY: Mapping[int, str] = {
    sqlite3.SQLITE_PERM: "its file may not be used; look at the rights of the file and its folder",
    sqlite3.SQLITE_BUSY: "another process has locked it for too long",
    sqlite3.SQLITE_LOCKED: "another connection has locked it for too long",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_READONLY: "its file cannot be written; look at the rights of the file and its folder",
    sqlite3.SQLITE_IOERR: "its disk reports an error",
    sqlite3.SQLITE_CORRUPT: "its file is damaged",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened; look at the rights of the file and its folder",
    sqlite3.SQLITE_PROTOCOL: "another process has locked it for too long",
    sqlite3.SQLITE_NOTADB: "its file is not a SQLite database",
}
_SQLITE_ONLY_WRITES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY})
_SQLITE_DATA = frozenset({sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE})

_TOO_LONG = "the database cannot store a value: a number or a text is too large, or a text has a character it refuses"


def translate(context: ExceptionContext, address: Address) -> Exception | None:
    """The domain's error for what a driver raised, if it has one: DatabaseAway, or Unstorable without the value.

    A handler of SQLAlchemy's event ``handle_error``. Other errors stay, without the values that they quote.
    """
    error = context.original_exception
    if not isinstance(error, Exception):  # a cancellation, after which SQLAlchemy gives the connection up
        return None
    if isinstance(error, Unstorable):  # by the columns' own types; SQLAlchemy would wrap it
        return Unstorable(str(error))
    if isinstance(error, OverflowError | UnicodeError):  # sqlite3's, for numbers and texts
        return Unstorable(_TOO_LONG)
    if isinstance(error, sqlite3.Error):
        known = sqlite_error(error, address)
        if isinstance(known, DatabaseAway):
            context.is_disconnect = not known.only_writes
        return known
    known = postgres_error(error, address, lost=context.is_disconnect)
    if isinstance(known, DatabaseAway):
        context.is_disconnect = context.is_disconnect or not known.only_writes
    if known is None:
        hide_details(error, error.__cause__, context.sqlalchemy_exception)
    return known


def postgres_error(error: Exception, address: Address, *, lost: bool) -> Exception | None:
    """The domain's error for what PostgreSQL's driver raised, if it has one: DatabaseAway, or Unstorable.

    lost: whether the connection is lost.
    """
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str) and state.startswith(_DATA_CLASS):
        _hide_texts(error)
        return Unstorable(_TOO_LONG)
    reason = _reason(error, state, lost=lost)
    if reason is None:
        return None
    return DatabaseAway(f"{address.shown}: {reason}", only_writes=state in _ONLY_WRITES)


def _reason(error: BaseException, state: str | None, *, lost: bool) -> str | None:
    """Why the error means that PostgreSQL is away, in words; None if it does not."""
    if state is not None and state in _AWAY:
        return _AWAY[state]
    if state is not None and state.startswith(_AWAY_CLASSES) and state != _DISK_FULL:
        return "the connection was lost" if state.startswith("08") else f"it reports an error (SQLSTATE {state})"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return "the connection was lost" if lost or isinstance(error, OSError) else None


def sqlite_error(error: sqlite3.Error, address: Address) -> Exception | None:
    """The domain's error for what SQLite's driver raised, if it has one: DatabaseAway, or Unstorable."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part
    if code in _SQLITE_AWAY:
        return DatabaseAway(f"{address.shown}: {_SQLITE_AWAY[code]}", only_writes=code in _SQLITE_ONLY_WRITES)
    is_about_data = code in _SQLITE_DATA or isinstance(error, sqlite3.DataError)
    return Unstorable(_TOO_LONG) if is_about_data else None


def _hide_texts(error: BaseException) -> None:
    """Take the texts of a chain of errors away: they quote the value that was refused."""
    link: BaseException | None = error
    while link is not None:
        link.args = ("the text is hidden: it quotes the value",)
        if hasattr(link, "detail"):
            link.detail = None
        link = link.__cause__


def hide_details(*errors: BaseException | None) -> None:
    """Take PostgreSQL's detail, such as ``Key (name)=(ada) already exists.``, out of errors that may be logged.

    errors: the driver's first, then those that repeat its text.
    """
    seen = errors[0]
    details: set[str] = set()
    while seen is not None:
        detail = getattr(seen, "detail", None)
        if isinstance(detail, str) and detail:
            details.add(detail)
            seen.detail = None  # type: ignore[attr-defined]
        seen = seen.__cause__
    for error in errors:
        if error is not None:
            error.args = tuple(_without(part, details) for part in error.args)


def _without(part: object, details: set[str]) -> object:
    if isinstance(part, str):
        for detail in details:
            part = part.replace(f"\nDETAIL:  {detail}", "").replace(detail, "")
    return part
