"""The folder of a resumable run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedloom.errors import SimulationError
from fedloom.run_folder import run_folder
from tests.support.processes import ROOT

FACTS = {"clients": 3, "seed": 1, "columns": ("a", "b")}  # JSON turns the tuple into a list


def begin(folder: Path, facts: dict[str, Any] = FACTS, *, force: bool = False, **options: Any) -> dict[str, Any]:
    with run_folder(folder, "simulation", SimulationError) as held:
        return held.begin(facts, force=force, **options)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fill(folder: Path) -> None:
    begin(folder)
    (folder / "coordinator").mkdir()
    (folder / "coordinator" / "fedloom.db").touch()
    (folder / "link").symlink_to("/")
    (folder / "metrics.csv").touch()


def test_a_run_resumes_with_its_state(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with run_folder(folder, "simulation", SimulationError) as held:
        state = held.begin(FACTS, force=False)
        assert state == {**FACTS, "columns": ["a", "b"]}
        held.write({**state, "campaign_id": "c"})
    (folder / "metrics.csv").touch()
    assert begin(folder, force=False) == {**state, "campaign_id": "c"}
    assert names(folder) == {"simulation.json", "simulation.lock", "metrics.csv"}


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(SimulationError, match=r"another simulation, which differs in: clients, way; .*--out.*--force"):
        begin(tmp_path, {**FACTS, "clients": 4, "way": "iid"}, force=False)
    assert "metrics.csv" in names(tmp_path)


@pytest.mark.parametrize("state", [None, "", "half {", "[]"])
def test_force_empties_the_folder_of_a_run(tmp_path: Path, state: str | None) -> None:
    fill(tmp_path)
    if state is not None:
        (tmp_path / "simulation.json").write_text(state)
        with pytest.raises(SimulationError, match=r"simulation.json cannot be read; start over with --force"):
            begin(tmp_path, force=False)
    assert begin(tmp_path, {"clients": 4}, force=True) == {"clients": 4}
    assert names(tmp_path) == {"simulation.json", "simulation.lock"}


def test_a_run_that_was_not_set_up_starts_over(tmp_path: Path) -> None:
    fill(tmp_path)
    assert begin(tmp_path, {"clients": 4}, force=False, is_set_up=lambda known: "campaign_id" in known)["clients"] == 4
    assert names(tmp_path) == {"simulation.json", "simulation.lock"}


@pytest.mark.parametrize("force", [False, True])
def test_something_else_is_refused_and_stays(tmp_path: Path, force: bool) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SimulationError, match=r"something that is not a simulation; .*--out"):
        begin(tmp_path, force=force)
    assert "thesis.tex" in names(tmp_path)


def test_a_killed_write_of_the_first_state_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".simulation.json.7.ab.tmp").touch()
    (tmp_path / "simulation.lock").touch()
    begin(tmp_path, force=False)
    assert names(tmp_path) == {"simulation.json", "simulation.lock"}


def test_a_clearing_that_is_cut_short_leaves_nothing_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)

    def fail(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr("shutil.rmtree", fail)
        begin(tmp_path, force=True)
    assert "coordinator" in names(tmp_path)
    begin(tmp_path, force=False)
    assert names(tmp_path) == {"simulation.json", "simulation.lock"}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from fedloom.errors import SimulationError
from fedloom.run_folder import run_folder
with run_folder(Path({str(tmp_path)!r}), "simulation", SimulationError):
    print("held", flush=True)
    input()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SimulationError, match="another process runs the simulation in"):
            begin(tmp_path, force=True)
    finally:
        other.kill()  # the operating system releases the lock however the process ends
        other.communicate()
    begin(tmp_path, force=False)
