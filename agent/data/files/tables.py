"""Reads records from Parquet files, saved datasets, and data sets of the hub.

The libraries are optional and slow to import, so each is imported only when it is needed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agent.data.files.file_record import BrokenRecord, FileRecord
from agent.data.files.folder import all_files
from agent.data.files.numbers import of_single_precision
from agent.data.files.saved import names_only_own_files
from agent.data.files.splits import known_splits
from agent.data.local_names import public
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.digest import sha256_file, sha256_of_parts
from shared.wire.tasks.leases import FailureKind

if TYPE_CHECKING:
    from datasets import Dataset

NO_REPORTS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # the datasets library reports the name of each data set to a bucket of its own
    "DO_NOT_TRACK": "1",
}
"""Environment variables that turn off the reports of the hub's libraries, which read them on import."""
_CELLS_AS_WRITTEN = {"keep_default_na": False, "na_filter": False}
"""Settings of the library's reader of CSV, which otherwise takes cells such as "NA" and "null" for nothing."""


def parquet(path: Path, label: str) -> Iterator[FileRecord]:
    """Yield the records of a Parquet file with their places. Raises TaskFailed (data)."""
    pyarrow = _library("pyarrow", label)
    number = 0
    try:
        with import_module("pyarrow.parquet").ParquetFile(path) as file:
            schema = file.schema_arrow
            if (repeated := _repeated_name(schema)) is not None:
                message = "two columns, or two fields of one, have the same name; rename one of them"
                yield FileRecord("", BrokenRecord(message, f": {repeated[:60]!r}"))
                return
            short = _short_floats(schema)
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield FileRecord(f"row {number}", _respelled(record, short))
    except pyarrow.ArrowException as error:
        _refuse(label, f"the file is damaged or not Parquet ({type(error).__name__})", error)


def dataset(source: DataSource) -> Iterator[FileRecord]:
    """Yield the records of a saved dataset, or of a data set of the hub. Raises TaskFailed (data)."""
    data = _dataset(source)
    short = _short_floats(data.features.arrow_schema)
    for number, record in enumerate(data, 1):
        yield FileRecord(f"row {number}", _respelled(record, short))


def _repeated_name(fields: Any) -> str | None:
    """The first name that two columns of a schema have, or two fields of a nested type; None if there is none."""
    seen: set[str] = set()
    for field in fields:
        if field.name in seen:
            return str(field.name)
        seen.add(field.name)
        inner = field.type
        nested = _repeated_name([inner.field(index) for index in range(inner.num_fields)])
        if nested is not None:
            return nested
    return None


def _short_floats(schema: Any) -> list[str]:
    """The columns of numbers with less than double precision, whose values Python would spell with too many digits."""
    return [field.name for field in schema if str(field.type) in ("float", "halffloat")]


def _respelled(record: dict[str, Any], short: list[str]) -> dict[str, Any]:
    return record | {name: of_single_precision(record[name]) for name in short if record[name] is not None}


def data_digest(source: DataSource, digest: Callable[[Path], str] = sha256_file) -> str:
    """Return a digest of the data. digest: computes the digest of a file. Raises OSError and TaskFailed (data)."""
    path = source.path
    if path is None:
        return str(_dataset(source)._fingerprint)
    if not path.is_dir():
        return digest(path)
    names = [name for name in all_files(path) if (path / name).is_file()]
    return sha256_of_parts(part for name in names for part in (ascii(name), digest(path / name)))


def _dataset(source: DataSource) -> "Dataset":
    _library("datasets", source.label)
    if source.path is not None:
        return _saved(source.path, source.label, source.split)
    return _fetched(str(source.hub), source.label, source.split, source.revision)


def _saved(path: Path, label: str, split: str) -> "Dataset":
    import datasets

    try:
        if not names_only_own_files(path):
            _refuse(label, "the saved dataset names files outside of its folder: save it anew")
        saved = datasets.load_from_disk(str(path))
    except TaskFailed:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files raise errors of many types
        _refuse(label, f"the saved dataset cannot be read ({type(error).__name__})", error)
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            _refuse(label, f"the data set has no split {split!r}; it has {known_splits(saved)}")
        return saved[split]
    return saved


@lru_cache(maxsize=4)
def _fetched(name: str, label: str, split: str, revision: str | None) -> "Dataset":
    """Load a data set once per process, so that rounds use the same rows, even while the hub cannot be reached."""
    return _loaded(name, label, split, revision)


def _loaded(name: str, label: str, split: str, revision: str | None) -> "Dataset":
    import datasets
    from huggingface_hub import errors as hub_errors

    datasets.disable_progress_bars()
    try:
        with suppress(ValueError):  # no table of text has these settings; any other error comes again
            return datasets.load_dataset(name, split=split, revision=revision, **_CELLS_AS_WRITTEN)
        data = datasets.load_dataset(name, split=split, revision=revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        if isinstance(error.__cause__, hub_errors.GatedRepoError) or "is a gated dataset" in str(error):
            _refuse(label, "the data set is gated: ask for access at the hub, and set HF_TOKEN here", error)
        if revision is not None and isinstance(error.__cause__, hub_errors.RevisionNotFoundError):
            _refuse(label, "the data set has no such revision: correct it in agent.toml", error)
        _refuse(label, "the hub has no such data set, or it is private: correct its name, or set HF_TOKEN", error)
    except ConnectionError as error:
        _refuse(label, "the hub cannot be reached: check the network, or give a copy of the data by path", error)
    except Exception as error:  # noqa: BLE001 - errors of the library, the network and the disk
        if (splits := _splits(name, revision)) and split.partition("[")[0] not in splits:
            _refuse(label, f"the data set has no split {split!r}; it has {known_splits(splits)}", error)
        message = f"the data set cannot be loaded ({type(error).__name__}); give a copy of one of its files by path"
        _refuse(label, message, error)
    if data.info.builder_name == "csv":  # a copy that another program made, taken while the hub is unreachable
        _refuse(label, "the copy on this machine lacks cells such as NA and null: connect to the hub once more")
    return data


def _splits(name: str, revision: str | None) -> list[str]:
    import datasets

    try:
        return list(datasets.get_dataset_split_names(name, revision=revision))
    except Exception:  # noqa: BLE001 - the caller reports the first error
        return []


def _library(name: str, label: str) -> Any:
    os.environ.update(NO_REPORTS)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        _refuse(label, f"{name} is not installed; run: pip install 'fedloom[agent]'", error)


def _refuse(label: str, message: str, error: Exception | None = None) -> NoReturn:
    raise TaskFailed(FailureKind.DATA, f"{public(label)}: {message}", f"{label}: {message}") from error
