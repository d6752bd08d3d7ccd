"""Records of Parquet files, of saved datasets, and of data sets of the hub.

Their libraries are slow to import and not everywhere, so each is imported where it is needed.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agent.errors import TaskFailed
from agent.settings import DataSource
from shared.digest import sha256_file, sha256_of_parts
from shared.wire.leases import FailureKind

if TYPE_CHECKING:
    from datasets import Dataset

NO_REPORTS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # of data sets, told to a bucket of their own by name
    "DO_NOT_TRACK": "1",
}
"""Environment in which the hub's libraries report nothing; read when they are imported."""
_SAVED = ("state.json", "dataset_dict.json")
"""What ``save_to_disk`` leaves in a folder: of one dataset, of several splits."""


def parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The records of a Parquet file. Raises TaskFailed (data)."""
    pyarrow = _library("pyarrow", path.name)
    number = 0
    try:
        with import_module("pyarrow.parquet").ParquetFile(path) as file:
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield f"row {number}", record
    except pyarrow.ArrowException as error:
        _refuse(path.name, f"the file is not Parquet, or damaged ({type(error).__name__})", error)


def dataset(source: DataSource) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The records of a saved dataset, of a folder of files, or of a data set of the hub. Raises TaskFailed (data)."""
    for number, record in enumerate(_dataset(source), 1):
        yield f"row {number}", record


def data_digest(source: DataSource, of: Callable[[Path], str] = sha256_file) -> str:
    """What changes when the data does. of: the digest of a file. Raises OSError, and TaskFailed (data)."""
    path = source.path
    if path is None:
        return str(_dataset(source)._fingerprint)
    if not path.is_dir():
        return of(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_of_parts(part for file in files for part in (str(file.relative_to(path)), of(file)))


def _dataset(source: DataSource) -> "Dataset":
    _library("datasets", source.label)
    if source.path is not None and any((source.path / name).is_file() for name in _SAVED):
        return _saved(source.path, source.split)
    if source.path is not None:
        return _loaded(str(source.path), source.label, source.split, None)
    return _fetched(str(source.hub), source.label, source.split, source.revision)


def _saved(path: Path, split: str) -> "Dataset":
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with its files
        _refuse(path.name, f"the saved dataset cannot be read ({type(error).__name__})", error)
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            _refuse(path.name, f"there is no split {split!r}; there are {', '.join(found)}")
        return found[split]
    return found


@lru_cache(maxsize=4)
def _fetched(name: str, label: str, split: str, revision: str | None) -> "Dataset":
    """Asked for once in a process: rounds go on while the hub is away, and on the same rows."""
    return _loaded(name, label, split, revision)


def _loaded(name: str, label: str, split: str, revision: str | None) -> "Dataset":
    import datasets
    from huggingface_hub import errors as hub_errors

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, split=split, revision=revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        if isinstance(error.__cause__, hub_errors.GatedRepoError) or "is a gated dataset" in str(error):
            _refuse(label, "the data set is gated: ask for access at the hub, and set HF_TOKEN here", error)
        if revision is not None and isinstance(error.__cause__, hub_errors.RevisionNotFoundError):
            _refuse(label, f"the data set has no revision {revision!r}: correct it in agent.toml", error)
        _refuse(label, "the hub has no such data set, or it is private: correct its name, or set HF_TOKEN", error)
    except ConnectionError as error:
        _refuse(label, "the hub cannot be reached: check the network, or give a copy of the data by path", error)
    except Exception as error:  # noqa: BLE001 - the library's, the network's, and the disk's
        if (splits := _splits(name, revision)) and split.partition("[")[0] not in splits:
            _refuse(label, f"there is no split {split!r}; there are {', '.join(splits)}", error)
        told = "the data set cannot be loaded here; give a copy of one of its files by path"
        _refuse(label, f"{told} ({type(error).__name__})", error)


def _splits(name: str, revision: str | None) -> list[str]:
    import datasets

    try:
        return list(datasets.get_dataset_split_names(name, revision=revision))
    except Exception:  # noqa: BLE001 - then the first error is told
        return []


def _library(name: str, label: str) -> Any:
    os.environ.update(NO_REPORTS)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        _refuse(label, f"{name} is not installed; run: pip install 'fedloom[agent]'", error)


def _refuse(label: str, message: str, error: Exception | None = None) -> NoReturn:
    raise TaskFailed(FailureKind.DATA, f"{label}: {message}") from error
