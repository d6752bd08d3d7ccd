"""Folders of models with something wrong in them, and the refusals that they get."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import TaskFailed
from agent.train.base.on_disk.finder import BaseFiles, BaseFinder
from shared.campaign.spec import BaseSection

ONE_TEXT = (
    "the base model's folder cannot be used: a link in it, or a name in one of its files, is not that of a plain file "
    "in this folder. Replace links by copies, and names of folders by plain names"
)


def find(folder: Path | None, tmp_path: Path, *, remote_code: bool = False, **base: Any) -> BaseFiles:
    section = BaseSection(**{"model": "org/tiny", **base})
    return BaseFinder().find(
        section,
        folder,
        tmp_path / "cache",
        refresh=False,
        remote_code=remote_code,
        remedy="map it",
        report=lambda _: None,
    )


def refusal(folder: Path | None, tmp_path: Path, *, remote_code: bool = False, **base: Any) -> str:
    with pytest.raises(TaskFailed) as caught:
        find(folder, tmp_path, remote_code=remote_code, **base)
    return caught.value.failure.message


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))


def index(folder: Path, *names: Any) -> None:
    (folder / "model.safetensors").unlink()
    weights = {f"tensor {number}": name for number, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
