"""Files and folders become private, whatever the umask, and what cannot become private is refused."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedloom.errors import SimulationError
from fedloom.run_folder import run_folder
from shared.system.private_files import create_private_file, private_folder, tighten

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_what_is_new_is_private(tmp_path: Path) -> None:
    private_folder(tmp_path / "folder")
    create_private_file(tmp_path / "file")
    assert (mode(tmp_path / "folder"), mode(tmp_path / "file")) == (0o700, 0o600)


def test_a_file_that_exists_is_not_created_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with pytest.raises(FileExistsError):
        create_private_file(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "content"


def test_the_rights_of_others_are_withdrawn_from_all_that_exists(tmp_path: Path) -> None:
    deep = tmp_path / "folder" / "sub"
    deep.mkdir(parents=True)
    for path, before in ((deep, 0o777), (deep.parent, 0o2755)):
        path.chmod(before)
    for name, before in (("open", 0o666), ("program", 0o755), ("read-only", 0o444), ("closed", 0o600)):
        (deep / name).touch()
        (deep / name).chmod(before)
    tighten(deep.parent)
    assert {path.name: mode(path) for path in deep.parent.rglob("*")} == {
        "sub": 0o700,
        "open": 0o600,
        "program": 0o700,
        "read-only": 0o400,
        "closed": 0o600,
    }
    assert mode(deep.parent) & 0o777 == 0o700


def test_links_are_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    elsewhere.chmod(0o755)
    (elsewhere / "file").chmod(0o644)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, target in (("folder", elsewhere), ("file", elsewhere / "file"), ("nowhere", tmp_path / "none")):
        (folder / name).symlink_to(target)
    tighten(folder)
    assert (mode(elsewhere), mode(elsewhere / "file")) == (0o755, 0o644)


def test_what_does_not_exist_is_left(tmp_path: Path) -> None:
    tighten(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_folder_of_another_user_is_refused_in_words() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        os.seteuid(54321)
        try:
            with pytest.raises(PermissionError, match="it belongs to another user; give a folder of your") as caught:
                private_folder(folder)
        finally:
            os.seteuid(0)
    assert caught.value.filename == str(folder)


def test_a_file_system_that_keeps_no_modes_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)  # as some network file systems do
    with pytest.raises(PermissionError, match="its file system keeps no modes"):
        private_folder(tmp_path)


@pytest.mark.usefixtures("no_umask")
def test_a_run_folder_is_private_and_another_folder_keeps_its_rights(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, other):
        folder.mkdir()
        folder.chmod(0o755)
    (other / "mine.txt").touch()
    with run_folder(run, "simulation", SimulationError) as held:
        held.begin({"seed": 1}, force=False)
        assert mode(run) == 0o700
    with run_folder(other, "simulation", SimulationError) as held, pytest.raises(SimulationError, match="is not a"):
        held.begin({"seed": 1}, force=False)
    assert mode(other) == 0o755
