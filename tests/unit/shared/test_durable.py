"""Files after a power cut."""

import ast
import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.system import durable
from shared.system.durable import (
    atomic_text,
    atomic_write,
    delete_leftovers,
    move_into_place,
    overwrite,
    sync_folder,
    sync_tree,
)
from tests.support.processes import ROOT

OLD, NEW = "old " * 5000, "new " * 50_000  # longer than a buffer

POWER_CUT = """
import os, sys
from pathlib import Path
from shared.system.durable import atomic_write

path, steps_left = Path(sys.argv[1]), int(sys.argv[2])
synced = {os.stat(path).st_ino} if path.exists() else set()
fsync, replace = os.fsync, os.replace

def step():
    global steps_left
    if steps_left == 0:
        for file in path.parent.iterdir():  # bytes that no fsync wrote to the disk are lost, and names stay
            if file.stat().st_ino not in synced:
                os.truncate(file, 0)
        os._exit(9)
    steps_left -= 1

def counting_fsync(descriptor):
    step()
    fsync(descriptor)
    synced.add(os.fstat(descriptor).st_ino)

def counting_replace(source, target):
    step()
    replace(source, target)

os.fsync, os.replace = counting_fsync, counting_replace
with atomic_write(path) as file:
    for _ in range(50_000):
        file.write(b"new ")
step()
"""
"""Writes a file and loses power before the step of the given number: fsync, rename, fsync of the folder, end."""


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("old", [None, OLD])
def test_a_power_cut_leaves_the_old_file_or_the_new_one(tmp_path: Path, old: str | None, step: int) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
    code = subprocess.run([sys.executable, "-c", POWER_CUT, path, str(step)], cwd=ROOT, check=False).returncode
    assert code == (9 if step < 4 else 0)
    content = path.read_text() if path.exists() else None
    assert content == (old if step < 2 else NEW)
    delete_leftovers(path)
    assert list(tmp_path.iterdir()) == ([path] if path.exists() else [])


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths that were synced, in order."""
    paths: list[Path] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", note)
    return paths


def test_the_folder_is_synced_last(tmp_path: Path, synced: list[Path]) -> None:
    atomic_text(tmp_path / "file", NEW)
    assert [path == tmp_path for path in synced] == [False, True]
    (tmp_path / "finished").write_text(NEW)
    (tmp_path / "folder").mkdir()
    move_into_place(tmp_path / "finished", tmp_path / "folder" / "file")
    assert synced[2:] == [tmp_path / "finished", tmp_path / "folder"]


def test_all_of_a_tree_is_synced(tmp_path: Path, synced: list[Path]) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "read only").touch(mode=0o400)
    sync_tree(tmp_path)
    assert sorted(synced) == sorted([tmp_path, *tmp_path.rglob("*")])


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(OLD)
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("arguments", "mode"), [({}, 0o644), ({"mode": 0o600}, 0o600)])
def test_a_secret_is_private_from_its_first_byte_on(tmp_path: Path, arguments: dict[str, int], mode: int) -> None:
    path = tmp_path / "file"
    path.touch(0o666)
    umask = os.umask(0o022)
    try:
        with atomic_write(path, **arguments):
            [temporary] = set(tmp_path.iterdir()) - {path}
            assert stat.S_IMODE(temporary.stat().st_mode) == mode
            assert f".{os.getpid()}." in temporary.name
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_threads_do_not_mix_their_files(tmp_path: Path) -> None:
    texts = [str(number) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: atomic_text(tmp_path / "file", text), texts))
    assert (tmp_path / "file").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_leftovers_of_one_file_go_and_others_stay(tmp_path: Path) -> None:
    gone, running = 99_999_999, os.getppid()  # a process id that no system gives, and one that is in use
    others = {"[a]", f".a.{gone}.ff.tmp", f".b.{gone}.ff.tmp", f".[a].{running}.ff.tmp"}
    for name in (*others, f".[a].{gone}.ff.tmp", f".[a].{gone}.0.tmp", f".[a].{os.getpid()}.0.tmp"):
        (tmp_path / name).touch()
    delete_leftovers(tmp_path / "[a]", spare_running=True)
    assert {path.name for path in tmp_path.iterdir()} == others
    delete_leftovers(tmp_path / "[a]")
    assert {path.name for path in tmp_path.iterdir()} == others - {f".[a].{running}.ff.tmp"}


@pytest.mark.parametrize("number", [None, errno.EPERM])
def test_an_existing_file_is_kept_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    """On a file system with hard links, and on one without."""

    def fail(*_: object) -> None:
        raise OSError(number, "no links here")

    if number is not None:
        monkeypatch.setattr(os, "link", fail)
    path = tmp_path / "file"
    with atomic_write(path, replace=False) as file:
        file.write(b"first")
    with pytest.raises(FileExistsError), atomic_write(path, replace=False) as file:
        file.write(b"second")
    assert path.read_bytes() == b"first"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_where_folders_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[Path]) -> None:
    monkeypatch.setattr(durable, "_IS_POSIX", False)  # as on Windows
    atomic_text(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_text() == NEW
    assert len(synced) == 1
    assert synced[0] != tmp_path


@pytest.mark.parametrize(("number", "is_raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_file_system_without_a_sync_of_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_raised: bool
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if is_raised:
        with pytest.raises(OSError, match=os.strerror(number)):
            sync_folder(tmp_path)
    else:
        sync_folder(tmp_path)


RENAMES_THEMSELVES = {
    "coordinator/storage/moved_tree.py",  # moves many files, synced before, then syncs their folders
    "coordinator/storage/file_store.py",  # syncs its chunks as they arrive
    "fedloom/adapters/atomic_folder.py",  # folders
    "shared/system/durable.py",
}


def renames(source: str) -> bool:
    """Whether a module renames files. str.replace has two arguments, datetime.replace only keywords."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    for call in calls:
        if not isinstance(call.func, ast.Attribute):
            continue
        if isinstance(call.func.value, ast.Name) and call.func.value.id in ("os", "shutil"):
            if call.func.attr in ("rename", "renames", "replace", "move"):
                return True
        elif call.func.attr in ("rename", "replace") and len(call.args) == 1:
            return True
    return False


def test_the_product_renames_files_in_one_way() -> None:
    packages = ("agent", "coordinator", "fedloom", "shared")
    modules = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    renaming = {str(path.relative_to(ROOT)) for path in modules if renames(path.read_text(encoding="utf-8"))}
    assert renaming == RENAMES_THEMSELVES


def test_the_beginning_of_a_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        overwrite(path, b"new")
    path.write_bytes(b"old text")
    before = path.stat().st_ino
    overwrite(path, b"new")
    assert path.read_bytes() == b"new text"
    assert path.stat().st_ino == before
