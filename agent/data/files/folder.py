"""Which files of a folder are read, in which order, and what is said about the others."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.data.checks.notices import Note
from agent.data.files.card import CardError, card_patterns, matching
from agent.data.files.file_record import BrokenRecord
from agent.data.files.saved import is_saved
from agent.data.files.splits import AmbiguousSplitError, known_splits, split_files
from agent.data.source import TABLE_SEPARATORS, file_type, name_without_type
from shared.text.unsafe import shorten

_TYPES = (".jsonl", ".json", *TABLE_SEPARATORS, ".parquet")
_TEXT = ".txt"
_COMPANION_NAMES = ("dataset_info.json", "dataset_infos.json", "desktop.ini", "thumbs.db", "_success")
_COMPANION_STEMS = ("readme", "license", "licence", "copying", "notice", "changelog", "citation")
_COMPANION_TYPES = (".md",)
_MAX_LISTED = 20


@dataclass(frozen=True)
class Listing:
    """The files of one split of a folder.

    Args:
        files: names to read, in their order, relative to the folder, with "/" between parts.
        problems: why the folder cannot be used as it is.
        notes: files that are not read.
    """

    files: list[str]
    problems: list[BrokenRecord] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def all_files(folder: Path) -> list[str]:
    """Return the names of all files that are not hidden, in order. Raises OSError.

    A link to a folder, which is not followed, and one to nothing are among them.
    """

    def fail(error: OSError) -> None:
        raise error  # os.walk would leave the subfolder out

    names = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        shown = [name for name in files if not name.startswith(".")]
        names += [(Path(parent) / name).relative_to(folder).as_posix() for name in (*shown, *links)]
    return sorted(names)


def files_of_rows(folder: Path) -> list[str]:
    """Return the names of all files that may hold rows, of every split, in order. Raises OSError."""
    if is_saved(folder):
        return [name for name in all_files(folder) if name.endswith(".arrow") and (folder / name).is_file()]
    return _sort_out(folder, all_files(folder), has_separator=True)[0]


def list_folder(folder: Path, split: str, *, has_separator: bool) -> Listing:
    """Return the files of one split. Raises OSError.

    has_separator: whether the settings name one, by which text without another form is divided.
    """
    data, companions, unknown = _sort_out(folder, all_files(folder), has_separator=has_separator)
    notes, problems = [], []
    if unknown:
        counted = "1 file is" if len(unknown) == 1 else f"{len(unknown)} files are"
        message = f"{counted} of a type that is not read; known are {', '.join(_TYPES)}; convert or move"
        problems.append(BrokenRecord(f"{message} {'it' if len(unknown) == 1 else 'them'}", _quoted(unknown)))
    if companions:
        notes.append(_unread(companions, ""))
    if not data:
        problems.append(BrokenRecord(f"the folder has no data files; known are {', '.join(_TYPES)}"))
        return Listing([], problems, notes)
    try:
        by_split = _by_split(folder, data)
    except AmbiguousSplitError as error:
        return Listing([], [*problems, BrokenRecord(str(error), error.private)], notes)
    except CardError as error:
        return Listing([], [*problems, BrokenRecord(str(error))], notes)
    if split not in by_split:
        problems.append(BrokenRecord(f"the data set has no split {split!r}; it has {known_splits(by_split)}"))
        return Listing([], problems, notes)
    if others := [name for name in data if name not in by_split[split]]:
        notes.append(_unread(others, f", as the split is {split!r}"))
    return Listing(by_split[split], problems, notes)


def _sort_out(folder: Path, names: list[str], *, has_separator: bool) -> tuple[list[str], list[str], list[str]]:
    """Data files, files that usually lie beside data, and all others."""
    types = {name: file_type(Path(name)) for name in names}
    # with tables beside them, the separator is that of the tables
    divides_text = has_separator and not any(kind in TABLE_SEPARATORS for kind in types.values())
    data, companions, unknown = [], [], []
    for name, kind in types.items():
        path = Path(name.lower())
        if path.name in _COMPANION_NAMES:
            companions.append(name)
        elif not name.isprintable() or not (folder / name).is_file():
            unknown.append(name)
        elif kind in _TYPES or (
            kind == _TEXT and divides_text and name_without_type(path.name) not in _COMPANION_STEMS
        ):
            data.append(name)
        elif kind in _COMPANION_TYPES or name_without_type(path.name) in _COMPANION_STEMS:
            companions.append(name)
        else:
            unknown.append(name)
    return data, companions, unknown


def _by_split(folder: Path, data: list[str]) -> Mapping[str, list[str]]:
    if patterns := card_patterns(folder):
        by_split = {split: matching(data, named) for split, named in patterns.items()}
        return {split: names for split, names in by_split.items() if names}
    return split_files(data)


def _unread(names: list[str], why: str) -> Note:
    counted = "1 file of the folder is" if len(names) == 1 else f"{len(names)} files of the folder are"
    return Note(f"{counted} not read{why}", _quoted(names))


def _quoted(names: list[str]) -> str:
    more = f", and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return f": {', '.join(map(_quoted_name, names[:_MAX_LISTED]))}{more}"


def _quoted_name(name: str) -> str:
    short = shorten(name, 60)
    return repr(short) if name.isprintable() else ascii(short)
