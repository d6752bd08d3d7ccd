"""A record that is missing, damaged or of another version: the agent stops with words, and nothing is made anew."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import RecordUnusable
from agent.main import run
from agent.record.bookings import Work, WorkKind
from agent.record.database import RECORD_FILE
from agent.record.record import OwnerRecord
from agent.workspace import Identity, Workspace
from tests.support.ledgers import NO_LEDGER


def missing(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def overwritten_within(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        [page] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'pools'").fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = os.urandom(size)
    path.write_bytes(data)


def of_a_later_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (missing, "it is missing, so what was done for campaigns before is not known"),
    (emptied, "it is of version 0, and this agent reads 1"),
    (garbage, "file is not a database"),
    (cut, "malformed"),
    (overwritten_within, "it is damaged"),
    (of_a_later_version, "it is of version 2, and this agent reads 1"),
    (a_folder, "unable to open database file"),
]


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    """An enrolled home."""
    workspace = Workspace(tmp_path / "home")
    workspace.create()
    workspace.record.create()
    workspace.write_settings("")
    workspace.write_identity(
        Identity(coordinator="http://127.0.0.1:9", agent_id="a", name="ada", secret="s", signing_key="0" * 64)
    )
    return workspace


@pytest.mark.parametrize(("spoil", "words"), SPOILT, ids=lambda value: getattr(value, "__name__", ""))
def test_the_agent_does_not_start(home: Workspace, spoil: Callable[[Path], None], words: str) -> None:
    path = home.home / RECORD_FILE
    spoil(path)
    with pytest.raises(RecordUnusable) as caught:
        run(home.home, child=["never-started"])
    said = str(caught.value)
    assert said.startswith(f"{path} cannot be used: ")
    assert words in said
    assert "no work is done without it: restore it from the latest backup, since with an older one totals go" in said
    assert path.exists() == (spoil is not missing), "no empty record takes the place of a lost one"


@pytest.mark.parametrize("spoil", [missing, emptied, garbage, a_folder])
def test_nothing_is_read_from_it_and_nothing_booked_while_the_agent_runs(
    home: Workspace, spoil: Callable[[Path], None]
) -> None:
    spoil(home.home / RECORD_FILE)
    record = home.record
    for call in (
        lambda: record.campaigns.find("c1"),
        lambda: record.bookings.of_campaign("c1"),
        lambda: record.bookings.pool_of(["key"]),
        lambda: record.bookings.book(1, "a", Work("c1", WorkKind.TRAIN, 1, 0, "s", "a"), NO_LEDGER),
    ):
        with pytest.raises(RecordUnusable):
            call()


def test_a_creation_that_was_killed_is_repeated(tmp_path: Path) -> None:
    (tmp_path / f"{RECORD_FILE}.new").write_bytes(b"half")
    record = OwnerRecord(tmp_path)
    record.create()
    record.check()
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_FILE]


def test_creating_it_again_changes_nothing(home: Workspace) -> None:
    home.record.bookings.book(1, "a", Work("c1", WorkKind.TRAIN, 1, 0, "s", "a"), NO_LEDGER)
    home.record.create()
    assert home.record.bookings.of_campaign("c1").n_trainings == 1


def test_it_is_readable_by_its_user_only(home: Workspace) -> None:
    assert (home.home / RECORD_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%41b", "ä ö"])
def test_the_name_of_a_home_may_have_any_characters(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    record = OwnerRecord(folder)
    record.create()
    record.check()
    record.bookings.book(1, "a", Work("c1", WorkKind.TRAIN, 1, 0, "s", "a"), NO_LEDGER)
    assert record.bookings.of_campaign("c1").n_trainings == 1
    assert (folder / RECORD_FILE).stat().st_size > 0
