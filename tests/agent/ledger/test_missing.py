"""A ledger that is gone, or an older copy: the agent says so when it starts, as far as its record of work tells."""

from pathlib import Path

import pytest

from agent.ledger.files import Head
from agent.main import _check_ledger
from agent.record.bookings import Work, WorkKind
from agent.workspace import Workspace


@pytest.mark.parametrize(("named", "is_said"), [(0, False), (3, True)])
def test_entries_that_bookings_name_are_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, named: int, is_said: bool
) -> None:
    workspace = Workspace(tmp_path)
    workspace.create()
    workspace.record.create()
    work = Work("c", WorkKind.TRAIN, 1, 0, "s" * 64, "a" * 64)
    workspace.record.bookings.book(1, "a", work, Head(named, "f" * 64) if named else Head())
    _check_ledger(workspace)
    assert ("the ledger ends with entry 0, and record.db names entry 3" in caplog.text) is is_said
