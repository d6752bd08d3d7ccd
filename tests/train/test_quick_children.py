"""Forked children behave like spawned ones."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.forks.preloaded import Preloaded
from tests.support.forks.quick_children import SERVER
from tests.support.processes import ROOT, wait_until

SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"

LEAVES_A_CHILD_BEHIND = """
import os, sys
from tests.support.forks.preloaded import Preloaded

with open("log", "wb") as log:
    child = Preloaded([sys.executable, "-c", sys.argv[1]], stdout=log, stderr=log, env=dict(os.environ))
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def start(code: str, **options: Any) -> "subprocess.Popen[str]":
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(SERVER.stand_in("-c", code), start_new_session=True, **(streams | options))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("pass", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no rows')", 1, "no rows\n"),
        ("import os; os._exit(77)", 77, ""),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os; os.kill(os.getpid(), 15)", -15, ""),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_forked_children_end_with_the_same_status_and_output(code: str, status: int, message: str) -> None:
    out, err = (process := start(code)).communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert err.endswith(message)
    assert bool(err) == bool(message)


def test_forked_children_have_the_streams_environment_and_folder_of_their_caller(tmp_path: Path) -> None:
    code = "import os, sys, torch; print(input(), os.environ['X'], os.getcwd(), torch.get_num_threads())"
    environment = {**os.environ, "X": "y", "OMP_NUM_THREADS": "2"}
    process = start(code, cwd=tmp_path, env=environment)
    assert process.communicate("hello\n", timeout=60) == (f"hello y {tmp_path} 2\n", "")


@pytest.mark.parametrize(
    "end",
    [
        lambda process: process.terminate(),
        lambda process: process.kill(),
        lambda process: os.killpg(process.pid, signal.SIGKILL),
    ],
    ids=["terminated", "killed", "killed with its group"],
)
def test_forked_children_end_with_their_stand_in(end: "Callable[[subprocess.Popen[str]], None]") -> None:
    process = start(f"import subprocess; subprocess.Popen(['sleep', '600'])\n{SLEEP}")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert is_running(pid)
    end(process)
    assert process.communicate(timeout=60) == ("", ""), "the process that the child started has closed the streams too"
    assert process.returncode < 0
    wait_until(lambda: not is_running(pid), "its end", 20)


@pytest.mark.deep
def test_server_and_children_end_with_the_process_that_used_them(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-c", LEAVES_A_CHILD_BEHIND, SLEEP]
    process = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == -9, process.stderr
    wait_until(lambda: not is_running(int(process.stdout)), "its end", 20)


def test_the_server_outlives_a_process_that_ends_as_its_client_leaves(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        leaving = Preloaded([sys.executable, "-c", SLEEP], stdout=log, stderr=log, env=dict(os.environ))
        server = int(Path(f"/proc/{leaving.pid}/stat").read_text().split()[3])
        os.kill(server, signal.SIGSTOP)  # it sees both ends at once, the process's first
        try:
            os.kill(leaving.pid, signal.SIGKILL)
            wait_until(lambda: Path(f"/proc/{leaving.pid}/stat").read_text().split()[2] == "Z", "the process's end")
            leaving._connection.close()
        finally:
            os.kill(server, signal.SIGCONT)
        assert Preloaded([sys.executable, "-c", ""], stdout=log, stderr=log, env=dict(os.environ)).wait(10) == 0
