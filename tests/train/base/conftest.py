"""Fixtures: a copy of the model, a private folder beside it, and what is opened in the test."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_opened: list[str] = []
_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.append(os.path.realpath(os.fsdecode(arguments[0])))


@pytest.fixture(scope="session", autouse=True)
def _audit() -> None:
    sys.addaudithook(_watch)  # it stays for the life of the process, so it has a switch


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The real paths of all files that Python code opens in the test."""
    global _watching
    _opened.clear()
    _watching = True
    yield _opened
    _watching = False


@pytest.fixture
def private(model_folder: Path, tmp_path: Path) -> Path:
    """A folder of the owner's, with a secret and with a model of its own."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "private"))
    (folder / "pin.txt").write_text("1234")
    return folder


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))
