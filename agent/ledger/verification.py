"""Whether a ledger is whole: no entry cut, edited, moved or repeated."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from agent.ledger.entries import NOTHING_BEFORE, digest_of, entry_of
from agent.ledger.files import Head, LedgerFiles

MAX_PROBLEMS = 20
"""The most problems that are listed; the first is what counts."""


@dataclass(frozen=True)
class Anchor:
    """An entry that something outside of the ledger knows. what: what knows it."""

    n: int
    sha256: str
    what: str


@dataclass
class Verified:
    """What was found.

    Args:
        head: the last entry.
        n_entries: entries that were read.
        first: number of the first entry; what came before is kept elsewhere, if it is not 1.
        problems: each in a sentence, in the order of the files; empty if the ledger is whole.
    """

    head: Head = field(default_factory=Head)
    n_entries: int = 0
    first: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class _Chain:
    """Follows entries from one to the next, and says what does not fit."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self.found = Verified()
        self._missing: dict[int, str] = {}
        self._anchors = {anchor.n: anchor for anchor in anchors}

    def say(self, problem: str) -> None:
        self.found.problems.append(problem)

    def take(self, n: int, prev: str, sha256: str, place: str) -> None:
        """The next entry, by its number and digests. place: its file and line."""
        head, found = self.found.head, self.found
        found.n_entries += 1
        if head.n == 0:
            self._take_first(n, prev)
        elif n == head.n + 1:
            if prev != head.sha256:
                self.say(f"entry {head.n} was edited: entry {n} names another digest for it ({place})")
        elif n > head.n + 1:
            last = f" to {n - 1}" if n > head.n + 2 else ""
            self._missing |= dict.fromkeys(range(head.n + 1, min(n, head.n + 1 + MAX_PROBLEMS)), "")
            self.say(f"entry {head.n + 1}{last} is missing, or stands elsewhere ({place})")
        elif n in self._missing:
            self._missing.pop(n)
            self.say(f"entry {n} stands after entry {head.n} ({place})")
            return
        else:
            self.say(f"entry {n} stands again after entry {head.n} ({place})")
            return
        anchor = self._anchors.pop(n, None)
        if anchor is not None and anchor.sha256 != sha256:
            self.say(f"entry {n} is not the one that {anchor.what} names ({place})")
        found.head = Head(n, sha256)

    def _take_first(self, n: int, prev: str) -> None:
        self.found.first = n
        if n == 1 and prev != NOTHING_BEFORE:
            self.say("entry 1 was edited: nothing comes before it")

    def end(self, stored: Head | None) -> Verified:
        """What was found, once all entries were taken. stored: the head as it was noted."""
        head = self.found.head
        if stored is None:
            if head.n:
                self.say("head.json is missing, so entries may be missing at the end")
        elif stored.n > head.n:
            self.say(f"it ends with entry {head.n}, and had {stored.n}: the last ones are missing")
        elif stored.n == head.n and stored.sha256 != head.sha256:
            self.say(f"entry {head.n} was edited: head.json names another digest for it")
        for anchor in self._anchors.values():
            if anchor.n > head.n:
                self.say(f"it ends with entry {head.n}, and {anchor.what} names entry {anchor.n}: it is an older copy")
                break
        return self.found


def verify(files: LedgerFiles, anchors: Iterable[Anchor] = ()) -> Verified:
    """Read a whole ledger. Raises OSError and LedgerUnusable.

    Args:
        files: the ledger.
        anchors: entries that the record of work knows.
    """
    chain = _Chain(anchors)
    for path, number, line in files.lines():
        text, place = line.removesuffix(b"\n"), f"{path.name}, line {number}"
        try:
            entry = entry_of(text)
        except ValidationError:
            chain.say(f"{place} is not an entry")
            continue
        _check_name(chain, path, number, entry.n)
        chain.take(entry.n, entry.prev, digest_of(text), place)
    return chain.end(files.stored_head())


def _check_name(chain: _Chain, path: Path, number: int, n: int) -> None:
    if number == 1 and int(path.stem) != n:
        chain.say(f"{path.name} begins with entry {n}, and not with the one that it is named by")
