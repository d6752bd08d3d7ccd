"""What identifies the rows of a data source, whatever its name and its settings are."""

from collections.abc import Callable, Iterator
from pathlib import Path

from agent.data.files.folder import files_of_rows
from agent.data.source import DataSource
from shared.digest import sha256_file

MAX_FILES = 1000
"""Most files of a folder that identify its rows, the first by name."""


def identity_of(source: DataSource, digest: Callable[[Path], str] = sha256_file) -> list[str]:
    """The places that a source reads and the digests of its files: two sources that share one hold the same rows.

    A folder has those of its files too. All splits of a data set are one, since splits may overlap (``train[:50%]``).

    digest: gives a file's SHA-256. Raises OSError if a file cannot be read.
    """
    hub = [] if source.hub is None else [f"hub {source.hub.strip().lower()}"]  # the hub ignores capitals
    keys = (key for path in _places(source) for key in _keys(path.resolve(), digest))
    return list(dict.fromkeys([*hub, *keys]))


def _places(source: DataSource) -> Iterator[Path]:
    yield from (path for path in (source.path, source.held_out_path) if path is not None)
    # a folder of that name is read instead of the hub's data set
    if source.hub is not None and (folder := Path(source.hub)).exists():
        yield folder


def _keys(path: Path, digest: Callable[[Path], str]) -> Iterator[str]:
    yield f"path {path}"
    if path.is_dir():
        for name in files_of_rows(path)[:MAX_FILES]:
            yield from _keys((path / name).resolve(), digest)
    # empty files are all equal, and have no rows in common
    elif path.is_file() and path.stat().st_size:
        yield f"sha256 {digest(path)}"
