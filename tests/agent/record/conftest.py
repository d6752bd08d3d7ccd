"""Fixtures of the tests of the record."""

from pathlib import Path

import pytest

from agent.record.record import OwnerRecord


@pytest.fixture
def record(tmp_path: Path) -> OwnerRecord:
    """A new record in a folder of its own."""
    record = OwnerRecord(tmp_path)
    record.create()
    return record
