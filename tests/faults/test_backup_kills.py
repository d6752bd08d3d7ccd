"""kill -9 of a backup and of a restore: the result is complete or absent, and the next attempt succeeds."""

import signal
import sys
from pathlib import Path

import pytest

from coordinator.backup.restoring import restore
from coordinator.backup.saving import back_up
from coordinator.settings import Settings
from tests.coordinator.backup.test_backup import ADAPTER, DELTA, fill, rows, settings_at, stored, with_services
from tests.faults.mortal_world import around
from tests.support.forks.preloaded import Preloaded
from tests.support.processes import Process
from tests.support.server import quick_settings

pytestmark = pytest.mark.fault


def killed(point: str, folder: Path, command: str, settings: Settings, file: Path) -> None:
    """Run a command until it is killed at a crash point."""
    argv = [sys.executable, "-m", "fedloom", "coordinator", command, str(file), "--data-dir", str(settings.data_dir)]
    argv += ["--database-url", settings.database_url] if settings.database_url else []
    crash = {"FEDLOOM_CRASH_AT": point, "FEDLOOM_CRASH_NOTES": str(folder / "notes")}
    updates = {"FEDLOOM_STORAGE__UPDATES": settings.storage.updates}
    process = Process(argv, folder / "command.log", popen=Preloaded, **crash, **updates)
    assert process.popen.wait(60) == -signal.SIGKILL, process.printed()


@pytest.mark.parametrize(
    "point", ["migrate: committed", *around("draft", "leave out"), "backup: rows copied", "backup: written"]
)
def test_a_killed_backup_leaves_no_file_and_the_next_one_succeeds(data_dir: Path, tmp_path: Path, point: str) -> None:
    settings, file, other = (
        quick_settings(data_dir, None),
        tmp_path / "backup.tar",
        quick_settings(tmp_path / "b", None),
    )
    with_services(settings, fill)
    killed(point, tmp_path, "backup", settings, file)
    assert not file.exists()
    back_up(settings, file)
    assert not list(tmp_path.glob(".backup.tar.*"))
    restore(other, file)
    assert [data for found in with_services(other, stored).values() for data in found] == [ADAPTER, DELTA]


@pytest.mark.parametrize(
    ("kind", "updates", "point"),
    [
        *(("sqlite", "files", point) for point in around("restore")),
        ("sqlite", "files", "restore: rows inserted"),
        ("sqlite", "files", "restore: files there"),
        *(
            pytest.param("postgres", "files", point, marks=pytest.mark.deep)
            for point in (*around("migrate", "clear bytes"), "restore: before commit", "restore: rows inserted")
        ),
        pytest.param("postgres", "database", "blob: committed", marks=pytest.mark.deep),
    ],
)
def test_a_killed_restore_succeeds_the_next_time(
    data_dir: Path, tmp_path: Path, request: pytest.FixtureRequest, kind: str, updates: str, point: str
) -> None:
    settings, file = quick_settings(data_dir, None), tmp_path / "backup.tar"
    other = settings_at(request, tmp_path / "other", kind, updates)
    with_services(settings, fill)
    back_up(settings, file)
    killed(point, tmp_path, "restore", other, file)
    assert not (other.data_dir / "fedloom.db").exists()
    restore(other, file)
    assert with_services(other, rows)["tasks"] == with_services(settings, rows)["tasks"]
    assert [data for found in with_services(other, stored).values() for data in found] == [ADAPTER, DELTA]
    assert not list(other.data_dir.glob("*.part"))
