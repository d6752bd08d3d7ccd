"""Third-party algorithms, laid out as pip would, without pip: an installer takes seconds."""

import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared import algorithms


def write_out(source: Path, target: Path) -> str:
    """Write the modules, the name and the entry points of the distribution in *source* into *target*.

    Returns the folder to put on the path.
    """
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    info = target / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {what}\n" for key, what in entries.items()) for group, entries in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module in source.glob("*.py"):
        shutil.copy(module, target)
    return str(target)


@contextmanager
def installed_here(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the distribution in *source* in this process while the block runs."""

    def forget() -> None:
        vars(algorithms.PLUGINS).pop("installed", None)
        algorithms.find.cache_clear()

    with monkeypatch.context() as patch:
        patch.syspath_prepend(write_out(source, target))
        forget()
        yield
    forget()
