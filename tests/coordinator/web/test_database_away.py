"""SQLite that cannot be used for a while: 503 with Retry-After, one line when it goes and one when it is back."""

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from coordinator.database import availability, engines
from coordinator.database.availability import Availability
from coordinator.errors import DatabaseAway
from tests.support.operator import Operator, problem
from tests.support.processes import wait_until
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator

Enroll = Callable[..., ScriptedAgent]


@pytest.fixture
def coordinator(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningCoordinator]:
    """A coordinator that waits briefly for others' locks, and soon believes that its database is back."""
    monkeypatch.setattr(engines, "LOCK_S", 0.2)
    monkeypatch.setattr(availability, "CALM_S", 0.3)
    with running_coordinator(quick_settings(data_dir, None)) as running:
        yield running


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process's write lock on a database."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


def loud(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def is_unavailable(reply: httpx.Response) -> bool:
    told = problem(reply)
    assert (reply.status_code, told.kind, told.retryable) == (503, "unavailable", True)
    assert told.detail == "the coordinator's database is not available; try again later"
    return reply.headers["Retry-After"] == "5"


@pytest.mark.usefixtures("coordinator")
def test_a_database_that_another_process_locks_is_503_for_writers_until_it_is_free(
    operator: Operator, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operator.token()
    with locked(data_dir / "fedloom.db"):
        for _ in range(3):
            assert is_unavailable(operator.http.post("/v1/tokens", json={}))
            assert operator.http.get("/v1/agents").status_code == 200
    wait_until(lambda: operator.http.post("/v1/tokens", json={}).is_success and len(loud(caplog)) > 1, "the lock", 20)
    gone, back = loud(caplog)
    file = data_dir / "fedloom.db"
    assert gone.startswith(f"the database is away: {file}: another process has locked it for too long. ")
    assert back.startswith("the database is back; it was away for ")


@pytest.mark.usefixtures("coordinator")
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_is_no_longer_the_one_in_use_is_noticed(
    operator: Operator, data_dir: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    operator.token()
    file, aside, other = (data_dir / name for name in ("fedloom.db", "aside.db", "other.db"))
    shutil.copy(file, other)
    os.link(file, aside)
    if how == "replaced":
        other.replace(file)
    else:
        file.unlink()
    assert is_unavailable(operator.http.post("/v1/tokens", json={}))
    assert is_unavailable(operator.http.get("/v1/agents"))
    ready = operator.http.get("/readyz")
    assert (ready.status_code, ready.json()["reason"]) == (503, "the database is not available")
    assert operator.http.get("/healthz").status_code == 200
    aside.replace(file)
    wait_until(lambda: operator.http.post("/v1/tokens", json={}).is_success and len(loud(caplog)) > 1, "the file", 20)
    gone, back = loud(caplog)
    assert gone.startswith(f"the database is away: {file}: the file was {how} while it was in use; restart")
    assert "back" in back


@pytest.mark.usefixtures("coordinator")
def test_a_campaign_goes_on_after_a_lock_that_came_in_its_middle(
    operator: Operator, enroll: Enroll, data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    ada.prepare()
    ada.init(adapter_bytes(tmp_path))
    lease = ada.lease("train")
    body = ada.train_result(ada.upload(lease, "delta", adapter_bytes(tmp_path, fill=1.0)))
    with locked(data_dir / "fedloom.db"):
        assert is_unavailable(ada.result(lease, body))
        time.sleep(1.5)  # the engine, the sweeper and the poller try, too
    wait_until(lambda: ada.result(lease, body).status_code == 200, "the lock", 20)
    operator.wait_for(campaign_id, "completed")
    assert not [record for record in caplog.records if record.exc_info], "tracebacks"


def test_what_is_said_once_is_not_said_again_while_the_database_comes_and_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seconds = 0.0
    state = Availability(lambda: seconds)
    lost, unwritable = DatabaseAway("db: lost"), DatabaseAway("db: locked", only_writes=True)
    state.failed(lost)  # at a start the caller says why
    assert loud(caplog) == []
    state.answered(wrote=False)
    for seconds in range(60):  # noqa: B007 - read by the clock
        state.failed(lost)
        state.answered(wrote=True)
    assert len(loud(caplog)) == 1
    seconds += availability.CALM_S
    state.answered(wrote=False)
    assert loud(caplog)[1:] == ["the database is back; it was away for 62 s"]
    state.failed(unwritable)
    seconds += 60.0
    state.answered(wrote=False)
    assert len(loud(caplog)) == 3, "reading says nothing about writing"
    state.answered(wrote=True)
    assert loud(caplog)[3:] == ["the database is back; it was away for 60 s"]


@pytest.mark.deep
def test_a_coordinator_on_sqlite_needs_no_driver_of_postgresql(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from pathlib import Path\n"
        "from coordinator import app, main\n"
        "from coordinator.settings import Settings\n"
        "print(main.prepare(Settings(data_dir=Path(sys.argv[1]))))"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).read_text().startswith("flo_")
