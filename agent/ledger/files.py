"""The files of the ledger.

ledger/000000000001.jsonl  entries, named by the number of the first one; a new file begins when one is large
ledger/head.json           number and digest of the last entry: a ledger that ends before it was cut
ledger/lock                held by the process that writes

An entry goes on with the number and the digest of the one before, from file to file. So whoever keeps the ledger may
move its first files elsewhere; what is left still hangs together.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.errors import LedgerUnusable
from agent.ledger.entries import NOTHING_BEFORE, Entry, digest_of, entry_of
from shared.system.durable import sync_folder
from shared.system.private_files import private_opener

FOLDER = "ledger"
_HEAD = "head.json"
_NUMBER = re.compile(r"[0-9]{12,15}")
"""The names of files of entries, without their ends."""
_BACKWARDS_BYTES = 1 << 14
"""Bytes that are read at once in search of the last line."""


@dataclass(frozen=True)
class Head:
    """The last entry: its number, and the digest of its line. Those of a ledger without entries are 0 and zeros."""

    n: int = 0
    sha256: str = NOTHING_BEFORE


class _StoredHead(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int
    sha256: str


class LedgerFiles:
    """The files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._head = folder / _HEAD

    def all(self) -> list[Path]:
        """The files of entries, in order."""
        return sorted(path for path in self.folder.glob("*.jsonl") if _NUMBER.fullmatch(path.stem))

    def lines(self) -> Iterator[tuple[Path, int, bytes]]:
        """Each line with its file and its number there, from 1. Raises OSError.

        One without its end is left out: it is being written, or its writer was killed, and its request was not sent.
        """
        for path in self.all():
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if line.endswith(b"\n"):
                        yield path, number, line

    def stored_head(self) -> Head | None:
        """The head as it was noted; None if there is none. Raises LedgerUnusable and OSError."""
        try:
            stored = _StoredHead.model_validate_json(self._head.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise LedgerUnusable(self.folder, f"{_HEAD} cannot be read") from error
        return Head(stored.n, stored.sha256)

    def note_head(self, head: Head) -> None:
        """Note the head in place: it is smaller than what a disk writes at once. Raises OSError."""
        text = _StoredHead(n=head.n, sha256=head.sha256).model_dump_json() + "\n"
        descriptor = private_opener(str(self._head), os.O_WRONLY | os.O_CREAT)
        try:
            os.write(descriptor, text.rjust(128).encode())
        finally:
            os.close(descriptor)

    def last(self) -> Head:
        """The last entry. Cuts off what a killed process left of a line: its request was never sent.

        Raises LedgerUnusable if the last line is no entry, or if entries are missing at the end, and OSError.
        """
        files = self.all()
        head = Head()
        for path in reversed(files):
            line = _last_line(path)
            if line is None:  # created, and not written to
                continue
            try:
                head = Head(entry_of(line).n, digest_of(line))
            except ValidationError as error:
                raise LedgerUnusable(self.folder, f"the last line of {path.name} is not an entry") from error
            break
        self._check_against_stored(head)
        return head

    def _check_against_stored(self, head: Head) -> None:
        stored = self.stored_head()
        if stored is None:
            if head.n:
                raise LedgerUnusable(self.folder, f"{_HEAD} is missing")
        elif head.n < stored.n:
            raise LedgerUnusable(self.folder, f"it ends with entry {head.n}, and had {stored.n}")
        elif head.n == stored.n and head.sha256 != stored.sha256:
            raise LedgerUnusable(self.folder, f"entry {head.n} was edited")

    def append(self, path: Path, lines: bytes) -> None:
        """Add lines to a file, on the disk when this returns. After an error the file is as before. Raises OSError."""
        is_new = not path.exists()
        descriptor = private_opener(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            before = os.fstat(descriptor).st_size
            try:
                view = memoryview(lines)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self.folder)

    def file_of(self, n: int) -> Path:
        """The path of a file that begins with entry *n*."""
        return self.folder / f"{n:012}.jsonl"


def entries(files: LedgerFiles) -> Iterator[tuple[Entry, str]]:
    """The entries with the digests of their lines. Raises LedgerUnusable at a line that is none, and OSError."""
    for path, number, line in files.lines():
        text = line.removesuffix(b"\n")
        try:
            yield entry_of(text), digest_of(text)
        except ValidationError as error:
            raise LedgerUnusable(files.folder, f"line {number} of {path.name} is not an entry") from error


def _last_line(path: Path) -> bytes | None:
    """The last whole line of a file, without its end; None if there is none. What follows it is cut off."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        tail = b""
        start = size
        while start > 0 and tail.count(b"\n") < 2:
            start = max(0, start - _BACKWARDS_BYTES)
            file.seek(start)
            tail = file.read(size - start)
        whole, newline, torn = tail.rpartition(b"\n")
        if torn:
            file.truncate(size - len(torn))
            os.fsync(file.fileno())
        return whole.rpartition(b"\n")[2] if newline else None
