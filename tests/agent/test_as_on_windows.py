"""An agent's parent process without the modules and functions that only POSIX has."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent.parts import Home
from tests.agent.test_agent import child_of, is_running, start_campaign, wait_for_training
from tests.support.operator import Operator
from tests.support.processes import RECORDED_CHILD, Process

AGENT = """
import asyncio, os, signal, sys
from pathlib import Path

for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("fork", "getpgid", "killpg", "setpgid", "setsid"):
    delattr(os, name)
del signal.SIGKILL

def refuse(*_):
    raise NotImplementedError

asyncio.SelectorEventLoop.add_signal_handler = refuse
signal.signal(signal.SIGINT, signal.default_int_handler)  # independent of how the suite was started

from agent import main

main.log_to_stderr()
main.run(Path(sys.argv[1]), sys.argv[2:])
print("stopped in good order", file=sys.stderr)
"""


def enrolled(new_home: Callable[[str], Home]) -> Home:
    """A home as an enrolment without POSIX leaves it: there the file of a lock is the lock itself, and is gone."""
    home = new_home("ada")
    for lock in (home.folder / "agent.lock", home.folder / "ledger" / "lock"):
        lock.unlink(missing_ok=True)
    return home


@contextmanager
def running(home: Home, child: list[str], log: Path) -> Iterator[Process]:
    agent = Process([sys.executable, "-c", AGENT, str(home.folder), *child], log, FEDLOOM_RECORDED='{"step_s": 0.05}')
    try:
        yield agent
    finally:
        agent.kill()


def test_an_agent_waits_for_work_and_is_stopped(new_home: Callable[[str], Home], tmp_path: Path) -> None:
    home = enrolled(new_home)
    for number in range(2):  # a second agent can use the home of a stopped one
        with running(home, ["never started"], tmp_path / f"log {number}") as agent:
            agent.wait_to_print("waiting for work")
            assert agent.stop() == 0
        assert "stopped in good order" in agent.printed()
        assert "Traceback" not in agent.printed()


@pytest.mark.deep
def test_ctrl_c_in_training_gives_the_task_back_and_ends_the_child(
    new_home: Callable[[str], Home], operator: Operator, tmp_path: Path
) -> None:
    home = enrolled(new_home)
    with running(home, RECORDED_CHILD, tmp_path / "log") as agent:
        operator.wait_for(start_campaign(operator), "completed")
        campaign_id = start_campaign(operator, name="second", training={"steps": 1000, "batch_size": 2})
        task = wait_for_training(operator, campaign_id)
        pid = child_of(home, campaign_id)
        agent.popen.send_signal(signal.SIGINT)
        assert agent.popen.wait(15) == 0
    [task] = [row for row in operator.items(f"/v1/campaigns/{campaign_id}/tasks") if row["id"] == task["id"]]
    assert task["state"] == "pending"
    assert not is_running(pid)
