"""The commands that an owner is told to type find the right home folder, whatever it is called."""

import shlex
from pathlib import Path

import pytest

from fedloom.cli.agent.deciding import command


def test_the_usual_folder_needs_no_option_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for home in (Path("fedloom-agent"), Path("./fedloom-agent"), tmp_path / "fedloom-agent"):
        assert command("approve", "clinic", home) == "fedloom agent approve clinic"
    assert command("run", "", tmp_path / "elsewhere" / "fedloom-agent").startswith("fedloom agent run --home ")


@pytest.mark.parametrize("name", ["two words", "it's", "a;b", "$HOME", "-x"])
def test_any_folder_is_one_word_for_the_shell(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    words = shlex.split(command("approve", "c1", home))
    assert words == ["fedloom", "agent", "approve", "c1", "--home", str(home)]
