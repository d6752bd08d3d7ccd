"""A disk that fills up: words, nothing corrupt, and the way on after space is made."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.command.conftest import N_ROWS, Start, replies_in
from tests.support.processes import ROOT
from tests.support.results import read_results

pytestmark = pytest.mark.train

SCRIPT = """
set -u
cat /dev/zero > small/filler 2> /dev/null
truncate -s -12288 small/filler
"$@"; echo "code $?"
ls -A small/out; cp -r small/out full
rm small/filler
"$@"; echo "code $?"
cp -r small/out done
"""


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap, to mount a small file system")
@pytest.mark.deep
def test_a_disk_that_is_full(base: Path, data: Path, tmp_path: Path) -> None:
    """On a file system of 1 MiB, which is filled but for three pages."""
    command = [sys.executable, "-m", "fedloom", "evaluate", "--base", base, "--data", data, "--out", "small/out"]
    command += ["--tasks", "rows", "--threads", "1"]
    (tmp_path / "small").mkdir()
    small = ["bwrap", "--dev-bind", "/", "/", "--size", str(1 << 20), "--tmpfs", str(tmp_path / "small")]
    small += ["--chdir", str(tmp_path), "--setenv", "XDG_CACHE_HOME", str(tmp_path / "cache")]
    small += ["--setenv", "HF_HUB_OFFLINE", "1", "--setenv", "PYTHONPATH", str(ROOT)]
    ran = subprocess.run(
        [*small, "bash", "-c", SCRIPT, "-", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in ran.stderr
    assert "No space left on device; what is there stays usable: make space, and the same command goes on" in ran.stderr
    assert [line for line in ran.stdout.splitlines() if line.startswith("code")] == ["code 1", "code 0"], ran
    assert not [name for name in ran.stdout.splitlines() if name.endswith(".tmp")]
    kept = replies_in(tmp_path / "full")
    assert kept == replies_in(tmp_path / "done")[: len(kept)]
    assert len(set(replies_in(tmp_path / "done"))) == len(replies_in(tmp_path / "done")) == N_ROWS
    assert read_results(tmp_path / "done").is_complete


@pytest.mark.soak
def test_files_that_cannot_grow(start: Start, base: Path, data: Path, tmp_path: Path) -> None:
    """As with a quota: the file of replies ends within a line."""
    arguments = ("--base", base, "--data", data, "--out", tmp_path / "out", "--tasks", "rows")
    limited = start(*arguments, prefix=("bash", "-c", 'ulimit -f 6; exec "$@"', "-"))
    assert limited.ended() == 1
    assert "File too large; what is there stays usable: make space, and the same command goes on" in limited.said
    kept = replies_in(tmp_path / "out")
    again = start(*arguments)
    assert again.ended() == 0, again.said
    assert replies_in(tmp_path / "out")[: len(kept)] == kept
    assert len(set(replies_in(tmp_path / "out"))) == N_ROWS
