"""An owner's files under umask 000 and in folders that were open before."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.workspace import Workspace
from tests.agent.parts import Home
from tests.agent.test_agent import start_campaign
from tests.support.operator import Operator
from tests.support.processes import wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """Every file and folder that others may read, write or enter."""
    paths = [folder, *folder.rglob("*")]
    return [str(path) for path in paths if not path.is_symlink() and path.lstat().st_mode & 0o077]


@pytest.mark.usefixtures("_open_umask")
def test_after_a_campaign_nothing_in_the_home_is_open_to_others(
    new_home: Callable[[str], Home], operator: Operator
) -> None:
    home = new_home("ada")  # writes its rows and settings with mode 0666
    home.workspace.create()
    assert open_to_others(home.folder) == []
    with home.running():
        campaign_id = start_campaign(operator, algorithm={"name": "scaffold"})
        operator.wait_for(campaign_id, "completed", timeout_s=60)
        folders = lambda: [path.name.rpartition(".")[0] for path in (home.folder / "tasks").iterdir()]  # noqa: E731
        wait_until(lambda: folders() == [f"{campaign_id}.1"], "the last task's end at the agent")
    names = {path.name for path in home.folder.rglob("*")}
    assert {"head.json", "instance.json", "adapters", "record.db", "result.json"} <= names
    [of_child] = (home.folder / "tasks").iterdir()  # a recorded child, which has no umask of its own
    assert [path for path in open_to_others(home.folder) if Path(path).parent != of_child] == []


def test_a_home_that_was_open_is_closed_with_all_that_is_in_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "cache").mkdir(parents=True)
    for path, mode in ((home, 0o755), (home / "cache", 0o777)):
        path.chmod(mode)
    outside = tmp_path / "outside"
    for path in (home / "cache" / "tokens-1.npz", home / "agent.toml", outside):
        path.write_text("x")
        path.chmod(0o644)
    (home / "link").symlink_to(outside)
    Workspace(home).create()
    assert open_to_others(home) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644
    assert stat.S_IMODE((home / "agent.toml").stat().st_mode) == 0o600


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the umask of a process")
def test_the_training_child_writes_private_files_whatever_its_umask_was() -> None:
    argv = [sys.executable, "-m", "agent.train"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, umask=0) as child:
        status = Path(f"/proc/{child.pid}/status")
        wait_until(lambda: "Umask:\t0077" in status.read_text(), "the child's umask")
        assert child.stdin is not None
        child.stdin.close()
