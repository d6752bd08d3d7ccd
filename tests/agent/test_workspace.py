"""A home folder whose files are missing, damaged or copied."""

import os
from pathlib import Path

import pytest

from agent.errors import AlreadyRunning, NotEnrolled
from agent.orders.job import Done
from agent.orders.job_files import CLIENT_STATE_FILE, DELTA_FILE, EXTRAS_FILE, RESULT_FILE, files_of
from agent.workspace import Workspace
from shared.digest import sha256_hex
from shared.wire.tasks.results import TrainResult
from tests.support.messages import training_metrics

GARBAGE = [b"", b"\xff\xfe\x00", b"null", b"[]", b"{}", b'{"id": ', b"7"]
METRICS = training_metrics()


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "home")
    workspace.create()
    return workspace


def finished(home: Workspace, task: str = "t1") -> Done:
    """Write the result and the files of a task."""
    result = TrainResult(delta=sha256_hex(b"delta"), extras=sha256_hex(b"extras"), metrics=METRICS)
    folder = home.task_folder(task)
    (folder / DELTA_FILE).write_bytes(b"delta")
    (folder / EXTRAS_FILE).write_bytes(b"extras")
    done = Done(result=result)
    (folder / RESULT_FILE).write_text(done.model_dump_json())
    return done


def found(home: Workspace) -> Done | None:
    return home.finished(home.task_folder("t1"))


def test_a_finished_result_is_found_again(home: Workspace) -> None:
    assert found(home) is None
    done = finished(home)
    assert found(home) == done
    assert [name for _, name, _ in files_of(done.result)] == [DELTA_FILE, EXTRAS_FILE]


def keep(home: Workspace, delta: str, committed: str | None, versions: int) -> list[str]:
    """Keep client state for a delta; its modification time is the delta's number in seconds. Returns all file names."""
    (home.task_folder("t1") / CLIENT_STATE_FILE).write_text(delta)
    os.utime(home.task_folder("t1") / CLIENT_STATE_FILE, (int(delta[1:]), int(delta[1:])))
    home.keep_states("c1", home.task_folder("t1"), delta, committed, versions)
    return sorted(path.name for path in (home.home / "client_state" / "c1").iterdir())


def test_the_committed_client_state_and_the_newest_ones_are_kept(home: Workspace) -> None:
    assert home.client_state_of("c1", "d1") is None
    assert keep(home, "d1", None, 2) == ["d1"]
    assert keep(home, "d2", "d1", 2) == ["d1", "d2"]
    assert keep(home, "d3", "d1", 2) == ["d1", "d3"]  # d2 was not committed
    assert keep(home, "d4", "d3", 3) == ["d1", "d3", "d4"]
    assert keep(home, "d5", "d1", 3) == ["d1", "d4", "d5"]  # the campaign was rolled back
    assert keep(home, "d5", "d1", 3) == ["d1", "d4", "d5"]
    path = home.client_state_of("c1", "d1")
    assert path is not None
    assert path.read_text() == "d1"
    assert home.client_state_of("c2", "d1") is None
    home.keep_states("c1", home.task_folder("t2"), "d6", None, 2)  # a task without client state
    assert home.client_state_of("c1", "d5") is not None


@pytest.mark.parametrize("name", [DELTA_FILE, EXTRAS_FILE])
@pytest.mark.parametrize("data", [None, b"", b"delt", b"other"])
def test_a_result_with_incomplete_files_is_ignored(home: Workspace, name: str, data: bytes | None) -> None:
    finished(home)
    path = home.task_folder("t1") / name
    path.unlink() if data is None else path.write_bytes(data)
    assert found(home) is None


@pytest.mark.parametrize("data", GARBAGE)
def test_an_unreadable_result_is_ignored(home: Workspace, data: bytes) -> None:
    finished(home)
    (home.task_folder("t1") / RESULT_FILE).write_bytes(data)
    assert found(home) is None


def left_after(home: Workspace, *ended: str) -> list[str]:
    """The folders that are left once the tasks have ended."""
    for name in ended:
        home.tidy_task(home.task_folder(name))
    return sorted(path.name for path in (home.home / "tasks").iterdir())


def test_a_finished_round_stays_until_the_next_one_is_finished(home: Workspace) -> None:
    finished(home, "c1.1.0")
    assert left_after(home, "task1", "c1.1.0", "task2") == ["c1.1.0"]
    assert left_after(home, "c1.2.0") == ["c1.1.0"], "round 2 failed, so its folder goes and the former stays"
    finished(home, "c1.2.0")
    assert left_after(home, "c1.2.0") == ["c1.2.0"]
    finished(home, "c1.1.1")
    assert left_after(home, "c1.1.1") == ["c1.1.1"], "the campaign was rolled back"


def test_rounds_of_another_campaign_stay(home: Workspace) -> None:
    finished(home, "c1.1.0")
    finished(home, "c11.1.0")
    finished(home, "c1.2.0")
    assert left_after(home, "c11.1.0", "c1.2.0") == ["c1.2.0", "c11.1.0"]


@pytest.mark.parametrize("data", [*GARBAGE, b'{"id": "", "place": []}', b'{"id": 5, "place": "here"}'])
def test_an_unreadable_instance_file_is_written_again(home: Workspace, data: bytes) -> None:
    (home.home / "instance.json").write_bytes(data)
    instance_id = home.instance_id
    assert len(instance_id) == 32
    assert home.instance_id == instance_id


def test_a_copied_home_is_another_instance(home: Workspace, tmp_path: Path) -> None:
    copy = Workspace(tmp_path / "copy")
    copy.create()
    instance_id = home.instance_id
    (copy.home / "instance.json").write_bytes((home.home / "instance.json").read_bytes())
    assert copy.instance_id != instance_id


@pytest.mark.parametrize("data", GARBAGE)
def test_an_identity_that_cannot_be_read_asks_for_enrolment(home: Workspace, data: bytes) -> None:
    (home.home / "identity.json").write_bytes(data)
    with pytest.raises(NotEnrolled, match="enroll"):
        home.read_identity()


@pytest.mark.parametrize("data", [*GARBAGE, b'{"tiny 64": null}', b'{"tiny 64": 0}', b'{"tiny 64": -1}'])
def test_micro_batches_that_cannot_be_read_are_forgotten(home: Workspace, data: bytes) -> None:
    (home.cache / "micro_batches.json").write_bytes(data)
    assert home.micro_batch("tiny", 64, 4) == 4
    home.remember_micro_batch("tiny", 64, 2)
    assert (home.micro_batch("tiny", 64, 4), home.micro_batch("tiny", 64, 1), home.micro_batch("tiny", 32, 4)) == (
        2,
        1,
        4,
    )


def test_a_home_is_for_one_process(home: Workspace) -> None:
    with home.lock(), pytest.raises(AlreadyRunning), home.lock():
        pass
    with home.lock():
        pass


@pytest.mark.parametrize("left", [b"", bytes(7), b"adapter and more"])
def test_a_cached_adapter_that_is_not_whole_is_not_there(home: Workspace, left: bytes) -> None:
    """As a power cut may leave it."""
    sha256 = sha256_hex(b"adapter")
    assert home.cached_adapter(sha256) is None
    (path := home.adapters / sha256).write_bytes(b"adapter")
    assert home.cached_adapter(sha256) == path
    path.write_bytes(left)
    assert home.cached_adapter(sha256) is None
