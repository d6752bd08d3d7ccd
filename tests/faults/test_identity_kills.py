"""Agents that are killed, or lose the reply, while they enrol or change their secret: they are not locked out."""

import signal
import sys
from pathlib import Path

import pytest

from agent.workspace import Workspace
from shared.credentials import hash_secret
from tests.support.forks.preloaded import Preloaded
from tests.support.operator import Operator
from tests.support.processes import Process
from tests.support.server import RunningCoordinator

pytestmark = pytest.mark.fault

ENROLLING = ("agent: enrolled", "agent: identity")
CHANGING = ("agent: secret changed", "agent: identity")
POINTS = {*ENROLLING, *CHANGING}


class Owner:
    """Runs the commands of a data owner in a home folder."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.home, self._folder = folder / "home", folder
        self.enroll = ("enroll", "--coordinator", url, "--name", "ada")
        self._token = token
        self._n_started = 0

    def start(self, *command: str, at: str = "") -> Process:
        self._n_started += 1
        argv = [sys.executable, "-m", "fedloom", "agent", *command, "--home", str(self.home)]
        log = self._folder / f"{self._n_started} {command[0]}.log"
        notes = str(self._folder / "notes")
        return Process(
            argv, log, popen=Preloaded, FEDLOOM_CRASH_AT=at, FEDLOOM_CRASH_NOTES=notes, FEDLOOM_TOKEN=self._token
        )

    def die(self, *command: str, at: str) -> None:
        dead = self.start(*command, at=at)
        assert dead.popen.wait(60) == -signal.SIGKILL, dead.printed()

    def do(self, *command: str) -> None:
        done = self.start(*command)
        assert done.popen.wait(60) == 0, done.printed()

    @property
    def secret(self) -> str:
        return Workspace(self.home).read_identity().secret


@pytest.fixture
def owner(coordinator: RunningCoordinator, operator: Operator, tmp_path: Path) -> Owner:
    return Owner(tmp_path, coordinator.url, operator.token())


@pytest.mark.parametrize("point", ENROLLING)
def test_an_agent_killed_while_it_enrols_keeps_its_identity(owner: Owner, operator: Operator, point: str) -> None:
    owner.die(*owner.enroll, at=point)
    [known] = operator.items("/v1/agents")
    if point == "agent: enrolled":  # the identity is not stored yet, so the owner repeats the command
        owner.do(*owner.enroll)
    owner.do("rotate-secret")
    assert operator.items("/v1/agents") == [known | {"last_seen_at": operator.get("/v1/agents/ada")["last_seen_at"]}]


@pytest.mark.parametrize("point", CHANGING)
@pytest.mark.parametrize("then", ["rotate-secret", "run"])
def test_an_agent_that_is_killed_while_it_changes_its_secret_goes_on(
    owner: Owner, operator: Operator, point: str, then: str
) -> None:
    owner.do(*owner.enroll)
    before = owner.secret
    owner.die("rotate-secret", at=point)
    if then == "run":
        running = owner.start("run")
        running.wait_to_print("waiting for work")
        assert running.stop() == 0
    else:
        owner.do("rotate-secret")
    assert owner.secret != before
    headers = {"Authorization": f"Bearer {owner.secret}"}
    body = {"secret_hash": hash_secret(owner.secret)}
    assert operator.http.post("/v1/agents/me/secret", json=body, headers=headers).status_code == 200
    headers = {"Authorization": f"Bearer {before}"}
    assert operator.http.post("/v1/agents/me/secret", json=body, headers=headers).status_code == 401
