"""A coordinator's files are for its user alone, under a umask that hides nothing, and in a folder that was open."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.processes import ROOT, CoordinatorProcess
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body

no_umask = partial(subprocess.Popen, umask=0)


class OpenCoordinator(CoordinatorProcess):
    """A coordinator in a process that was started with a umask of zero."""

    popen = staticmethod(no_umask)


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[OpenCoordinator]:
    running = OpenCoordinator(tmp_path / "coordinator")
    yield running
    running.operator.http.close()
    if running.process.popen.poll() is None:
        running.process.stop()


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``fedloom coordinator`` with a umask of zero."""
    argv = [sys.executable, "-m", "fedloom", "coordinator", *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(argv, umask=0, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def open_ones(folder: Path) -> dict[str, str]:
    """The mode of each file and folder to which other users have a right."""
    found = {path: path.lstat().st_mode for path in (folder, *folder.rglob("*"))}
    return {str(path): stat.filemode(mode) for path, mode in found.items() if mode & 0o077}


def begin_campaign(coordinator: OpenCoordinator, folder: Path) -> ScriptedAgent:
    """A campaign with an adapter, an update of a round that is open, and an upload in progress."""
    operator = coordinator.operator
    ada, bob = (ScriptedAgent(coordinator.url, operator.token(), name) for name in ("ada", "bob"))
    operator.post("/v1/campaigns", campaign_body())
    for agent in (ada, bob):
        agent.prepare()
    ada.init(adapter_bytes(folder, fill=0.0))
    ada.train(adapter_bytes(folder, fill=1.0))
    data = adapter_bytes(folder, fill=2.0)
    lease = bob.lease("train")
    upload = bob.start_upload(lease, "delta", data).json()
    assert bob.send_chunk(lease, upload["id"], 0, data[:100]).status_code == 204
    ada.http.close()
    return bob


@pytest.mark.deep
def test_nothing_of_a_running_campaign_is_open_to_other_users(coordinator: OpenCoordinator, tmp_path: Path) -> None:
    begin_campaign(coordinator, tmp_path).http.close()
    names = {path.name for path in coordinator.data.iterdir()}
    assert {"fedloom.db", "fedloom.db-wal", "fedloom.db-shm", "operator.key", "updates", "uploads"} <= names
    assert all(any((coordinator.data / name).iterdir()) for name in ("updates", "uploads"))
    assert open_ones(coordinator.data) == {}
    assert not re.search(r"fl[oae]_[\w-]{20}", coordinator.process.printed())  # no secret in the log, requests included


@pytest.mark.deep
def test_an_open_folder_is_closed_at_the_start(coordinator: OpenCoordinator, tmp_path: Path) -> None:
    begin_campaign(coordinator, tmp_path).http.close()
    coordinator.process.kill()  # so that the log files of the database stay
    for path in (coordinator.data, *coordinator.data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (coordinator.data / "notes.txt").write_text("an owner's own file, which is none of the coordinator's business")
    (coordinator.data / "notes.txt").chmod(0o644)
    coordinator.start()
    assert {Path(path).name for path in open_ones(coordinator.data)} == {"notes.txt"}


@pytest.mark.soak
def test_backups_restored_folders_and_keys_are_private(coordinator: OpenCoordinator, tmp_path: Path) -> None:
    begin_campaign(coordinator, tmp_path).http.close()
    place, backup, key = tmp_path / "place", tmp_path / "place" / "monday.backup", tmp_path / "place" / "key"
    place.mkdir(mode=0o700)
    for arguments in (("backup", backup), ("new-key", "--out", key)):
        done = command(*arguments, "--data-dir", coordinator.data)
        assert done.returncode == 0, done.stderr
    done = command("restore", backup, "--data-dir", place / "restored")
    assert done.returncode == 0, done.stderr
    assert (place / "restored" / "fedloom.db").exists()
    assert open_ones(place) == open_ones(coordinator.data) == {}
