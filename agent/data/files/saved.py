"""Folders that ``save_to_disk`` of the datasets library writes: which they are, and that they name only own files."""

import json
from pathlib import Path
from typing import Any

from agent.plain_names import is_plain_name

_STATE, _SPLITS = ("state.json", "dataset_dict.json")
"""Files of a saved dataset: of one, and of several by their split."""


def is_saved(path: Path) -> bool:
    """Return whether a folder was written by ``save_to_disk``."""
    return any((path / name).is_file() for name in (_STATE, _SPLITS))


def names_only_own_files(path: Path) -> bool:
    """Whether all that a saved dataset names lies in its folder: the library would follow names to any other.

    Raises OSError, and ValueError if its files are not JSON.
    """
    splits = _read(path / _SPLITS).get("splits", [])
    if not isinstance(splits, list) or not all(map(is_plain_name, splits)):
        return False
    return all(_has_own_files(folder) for folder in (path, *(path / split for split in splits)))


def _has_own_files(folder: Path) -> bool:
    files = _read(folder / _STATE).get("_data_files") or []
    if not isinstance(files, list):
        return False
    return all(isinstance(each, dict) and is_plain_name(each.get("filename"), ".arrow") for each in files)


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no such file."""
    content = json.loads(path.read_bytes()) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
