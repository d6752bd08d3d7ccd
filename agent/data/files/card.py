"""The card of a data set (README.md), which may say which files a split has."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from shared.text.text_file import read_text

CARD = "README.md"
_GIVE_FILES = "give the path of a file, or of a folder without the card"
_UNREAD = f"the card of the data set ({CARD}) names its files in a way that is not read: {_GIVE_FILES}"
_FRONT = re.compile(r"---[ \t]*\r?\n(.*?)^---[ \t]*$", re.MULTILINE | re.DOTALL)


class CardError(Exception):
    """A card that cannot be followed. The text says what to do, without names of files."""


def card_patterns(folder: Path) -> Mapping[str, list[str]]:
    """Return the patterns of the files of each split; empty if the card names none. Raises OSError and CardError."""
    configurations = _configurations(folder / CARD)
    if not configurations:
        return {}
    if len(configurations) > 1:
        raise CardError(f"the card of the data set ({CARD}) has several configurations: {_GIVE_FILES} of one of them")
    [configuration] = configurations
    if not isinstance(configuration, dict) or configuration.get("data_dir"):
        raise CardError(_UNREAD)
    return _patterns(configuration.get("data_files"))


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that any of the patterns matches, in their order."""
    alternatives = {form for pattern in patterns for form in (pattern, pattern.replace("**/", ""))}
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in alternatives)]


def _configurations(card: Path) -> list[Any]:
    try:
        text = read_text(card)
    except (FileNotFoundError, UnicodeDecodeError):
        return []
    found = _FRONT.match(text)
    if found is None or "configs" not in found[1]:
        return []
    try:
        front = yaml.safe_load(found[1])
    except yaml.YAMLError:
        raise CardError(_UNREAD) from None
    configurations = front.get("configs", []) if isinstance(front, dict) else None
    if not isinstance(configurations, list):
        raise CardError(_UNREAD)
    return configurations


def _patterns(files: object) -> dict[str, list[str]]:
    if files is None:
        return {}
    if isinstance(files, str) or (isinstance(files, list) and all(isinstance(each, str) for each in files)):
        files = [{"split": "train", "path": files}]
    found: dict[str, list[str]] = {}
    for each in files if isinstance(files, list) else [files]:
        split, path = (each.get("split"), each.get("path")) if isinstance(each, dict) else (None, None)
        paths = [path] if isinstance(path, str) else path
        if not isinstance(split, str) or not isinstance(paths, list) or not all(isinstance(one, str) for one in paths):
            raise CardError(_UNREAD)
        found.setdefault(split, []).extend(paths)
    return found
