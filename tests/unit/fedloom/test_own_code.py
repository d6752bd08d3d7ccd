"""Files of the user's own: whatever they do, the command says what was wrong, and stays where it is."""

import shutil
import sys
from pathlib import Path

import pytest

from fedloom.own_code import OwnCodeFailed, attribute_of, own_code


def written(folder: Path, code: str) -> Path:
    path = folder / "own.task.py"
    path.write_text(code)
    return path


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(0)", "cannot be imported: it called sys.exit"),
        ("class Odd(BaseException): ...\nraise Odd('x')", "cannot be imported: Odd: x"),
        ("raise GeneratorExit", "cannot be imported: GeneratorExit"),
        ("f = lambda: f()\nf()", "cannot be imported: RecursionError"),
        ("import os, shutil; shutil.rmtree(os.getcwd())", "cannot be imported: it deleted the current folder"),
    ],
)
def test_a_file_that_fails_is_refused(code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, code)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OwnCodeFailed, match=said):
        attribute_of(path, "Task")
    assert "fedloom_own_own.task" not in sys.modules


def test_ctrl_c_stays_what_it_is() -> None:
    with pytest.raises(KeyboardInterrupt), own_code():
        raise KeyboardInterrupt


def test_a_current_folder_that_is_gone_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "Task = 1")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    shutil.rmtree(tmp_path / "here")
    assert attribute_of(path, "Task") == 1


def test_what_is_printed_goes_to_stderr_and_the_folder_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert attribute_of(written(tmp_path, "import os; print('hello'); os.chdir('/'); Task = 1"), "Task") == 1
    assert capsys.readouterr() == ("", "hello\n")
    assert Path.cwd() == tmp_path
