"""A record that was put back from an older copy is not taken for the latest: what was done would be forgotten."""

import shutil
from pathlib import Path

import pytest

from agent.errors import RecordUnusable
from agent.record.bookings import Work, WorkKind
from agent.record.database import RECORD_FILE
from agent.record.record import OwnerRecord
from tests.support.ledgers import NO_LEDGER


def book(record: OwnerRecord, *rounds: int) -> None:
    for number in rounds:
        record.bookings.book(1, "a", Work("c1", WorkKind.TRAIN, number, 0, "s", "a"), NO_LEDGER)


def test_an_older_copy_is_refused_and_says_how_much_it_lacks(record: OwnerRecord, tmp_path: Path) -> None:
    [file] = tmp_path.rglob(RECORD_FILE)
    book(record, 1)
    shutil.copy(file, tmp_path / "backup")
    book(record, 2, 3, 3)
    record.check()
    shutil.copy(tmp_path / "backup", file)
    with pytest.raises(RecordUnusable, match="it ends with booking 1, and this agent had made 3: it is an older copy"):
        record.check()


@pytest.mark.parametrize("mark", [None, "", "word\n", "0\n", "1\n"])
def test_a_mark_that_is_behind_or_unreadable_stops_nothing_and_is_mended(
    record: OwnerRecord, tmp_path: Path, mark: str | None
) -> None:
    """As after a crash between a booking and its mark."""
    book(record, 1, 2)
    [file] = tmp_path.rglob(f"{RECORD_FILE}.mark")
    file.unlink() if mark is None else file.write_text(mark)
    record.check()
    book(record, 3)
    assert int(file.read_text()) == 3
    assert file.stat().st_mode & 0o777 == 0o600
