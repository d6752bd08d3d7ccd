"""The file of the record: one small SQLite database, of which every change is on the disk before anything follows it.

Several processes may use it: the agent, and the owner's commands beside it.
"""

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.errors import RecordUnusable
from shared.system.durable import atomic_text, move_into_place, overwrite

RECORD_FILE = "record.db"
_MARK_SUFFIX = ".mark"
"""Of the file that holds the number of the latest booking: a record that lacks it is an older copy."""
_VERSION = 1
_WAIT_S = 30.0
"""Seconds to wait for another process that writes."""
_KEPT = 4
"""Most connections that are kept open between blocks."""
_JOURNAL_BYTES = 1 << 20
"""Size at which the journal is cut after all."""
_SCHEMA = """
CREATE TABLE campaigns (
    id TEXT PRIMARY KEY,
    coordinator TEXT NOT NULL,
    name TEXT NOT NULL,
    spec_sha256 TEXT NOT NULL,
    spec TEXT NOT NULL,
    terms TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    decision TEXT NOT NULL,
    decided_by TEXT,
    decided_at TEXT,
    pool INTEGER,
    prepared TEXT
);
CREATE TABLE declined (campaign TEXT PRIMARY KEY);
CREATE TABLE pools (key TEXT PRIMARY KEY, pool INTEGER NOT NULL);
CREATE TABLE bookings (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    campaign TEXT NOT NULL,
    agent TEXT NOT NULL,
    pool INTEGER NOT NULL,
    kind TEXT NOT NULL,
    round INTEGER NOT NULL,
    history INTEGER NOT NULL,
    spec_sha256 TEXT NOT NULL,
    adapter TEXT NOT NULL,
    reference TEXT NOT NULL,
    broadcast TEXT NOT NULL,
    client_number INTEGER,
    steps INTEGER NOT NULL,
    n_rows INTEGER NOT NULL,
    ledger_entry INTEGER NOT NULL,
    ledger_sha256 TEXT NOT NULL,
    result TEXT,
    norm REAL,
    UNIQUE (campaign, kind, round, history)
);
CREATE INDEX bookings_of_pool ON bookings (pool, at);
CREATE TABLE statements (
    pinned TEXT NOT NULL,
    campaign TEXT NOT NULL,
    number INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    text TEXT NOT NULL,
    key TEXT NOT NULL,
    signature TEXT NOT NULL,
    replaced INTEGER NOT NULL,
    PRIMARY KEY (pinned, campaign, sha256)
);
CREATE INDEX statements_in_order ON statements (pinned, campaign, number);
CREATE TABLE contradictions (
    pinned TEXT NOT NULL,
    campaign TEXT NOT NULL,
    at TEXT NOT NULL,
    reason TEXT NOT NULL,
    text TEXT NOT NULL,
    key TEXT NOT NULL,
    signature TEXT NOT NULL
);
CREATE TABLE signing_keys (pinned TEXT NOT NULL, key TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (pinned, key));
CREATE TABLE measured (
    campaign TEXT NOT NULL,
    kind TEXT NOT NULL,
    round INTEGER NOT NULL,
    history INTEGER NOT NULL,
    at TEXT NOT NULL,
    metrics TEXT NOT NULL,
    PRIMARY KEY (campaign, kind, round, history)
);
CREATE TABLE benchmarks (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    campaign TEXT NOT NULL,
    history INTEGER NOT NULL,
    number INTEGER NOT NULL,
    adapter TEXT NOT NULL,
    benchmark TEXT NOT NULL,
    score TEXT,
    has_number INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 1,
    UNIQUE (campaign, history, number, benchmark)
);
CREATE TABLE benchmark_offered (campaign TEXT PRIMARY KEY);
CREATE TABLE benchmark_offers (
    campaign TEXT NOT NULL,
    benchmark TEXT NOT NULL,
    offer TEXT NOT NULL,
    stands INTEGER NOT NULL,
    PRIMARY KEY (campaign, benchmark)
);
CREATE TABLE gains (
    campaign TEXT NOT NULL,
    adapter TEXT NOT NULL,
    number INTEGER NOT NULL,
    base REAL NOT NULL,
    alone REAL NOT NULL,
    loss REAL NOT NULL,
    at TEXT NOT NULL,
    sent_at TEXT,
    PRIMARY KEY (campaign, adapter)
);
CREATE TABLE held (
    campaign TEXT NOT NULL,
    round INTEGER NOT NULL,
    history INTEGER NOT NULL,
    task TEXT NOT NULL,
    folder TEXT NOT NULL,
    job TEXT NOT NULL,
    held_at TEXT NOT NULL,
    release_at TEXT,
    released_at TEXT,
    passed_on_at TEXT,
    ended_at TEXT,
    review TEXT,
    review_tries INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign, round, history)
);
"""


class RecordDatabase:
    """The database in one home folder, for any number of threads. Each block is one transaction."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._free: list[_Open] = []
        weakref.finalize(self, _close_all, self._free)
        self._mark = path.with_name(path.name + _MARK_SUFFIX)
        self._of_thread = threading.local()

    def create(self) -> None:
        """Create the file unless it exists, readable by this user only. Raises RecordUnusable."""
        if self._path.exists():
            return
        # whole or not at all: an enrolment that is killed here can be repeated
        new = self._path.with_name(f"{self._path.name}.new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        with self._errors(), closing(_connect(new)) as connection:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        move_into_place(new, self._path)

    def check(self) -> None:
        """Raise RecordUnusable if the file is missing, damaged, of another version, or older than what was booked."""
        if not self._path.exists():
            raise RecordUnusable(self._path, "it is missing, so what was done for campaigns before is not known")
        with self._errors(), closing(_connect(self._path)) as connection:
            [version] = connection.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                raise RecordUnusable(self._path, f"it is of version {version}, and this agent reads {_VERSION}")
            [state] = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if state != "ok":
                raise RecordUnusable(self._path, f"it is damaged ({state})")
            [latest] = connection.execute("SELECT COALESCE(MAX(id), 0) FROM bookings").fetchone()
        if latest < (marked := self._marked()):
            reason = f"it ends with booking {latest}, and this agent had made {marked}: it is an older copy"
            raise RecordUnusable(self._path, reason)

    def mark(self, latest: int) -> None:
        """Note beside the database that a booking was made, so that an older copy of it is not taken for this one."""
        if latest > self._marked():
            text = f"{latest:020}\n"
            if self._mark.exists() and self._mark.stat().st_size == len(text):
                overwrite(self._mark, text.encode())  # within one sector: whole or not at all
            else:
                atomic_text(self._mark, text, mode=0o600)

    def _marked(self) -> int:
        try:
            return int(self._mark.read_bytes())
        except (FileNotFoundError, ValueError):
            return 0

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Read, all of one state. Raises RecordUnusable."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Write; at the end of the block the changes are on the disk. Raises RecordUnusable."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Have what this thread reads and writes in the block be one transaction: on the disk at its end, or not at all
        if it raises. A block within another belongs to that one. Raises RecordUnusable."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            if self._begun is not None:
                yield
                return
            self._of_thread.connection = connection
            try:
                yield
            finally:
                self._of_thread.connection = None

    @property
    def _begun(self) -> sqlite3.Connection | None:
        """The connection of this thread's ``as_one``; None outside of one."""
        begun: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        return begun

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        if self._begun is not None:
            with self._errors():
                yield self._begun
            return
        with self._errors(), self._connection() as connection:
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one block, kept for later ones: to open the file costs more than most of them."""
        opened = self._kept()
        if opened is None:
            opened = _Open(_connect(self._path), _identity(self._path))
            # the journal stays, with its beginning overwritten at each end: to cut, delete or make a file costs a
            # commit of the file system's own journal, for which all that write to this disk wait
            opened.connection.execute("PRAGMA journal_mode = PERSIST")
            opened.connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        try:
            yield opened.connection
        except BaseException:
            opened.connection.close()  # which rolls back
            raise
        if len(self._free) < _KEPT:
            self._free.append(opened)
        else:
            opened.connection.close()

    def _kept(self) -> "_Open | None":
        """A free connection to the file that is there by now, which may not be the one of before."""
        while self._free:
            try:
                opened = self._free.pop()
            except IndexError:  # another thread took it
                return None
            if opened.identity == _identity(self._path):
                return opened
            opened.connection.close()
        return None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RecordUnusable(self._path, str(error)) from error


@dataclass(frozen=True)
class _Open:
    """A connection, and the device and inode of its file."""

    connection: sqlite3.Connection
    identity: tuple[int, int] | None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _close_all(opened: list[_Open]) -> None:
    for each in opened:
        each.connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"  # a path as it is would end at a ? or # in the name of a folder
    connection = sqlite3.connect(uri, timeout=_WAIT_S, isolation_level=None, uri=True, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA synchronous = EXTRA")  # the end of the journal too: a booking is never undone
    return connection
