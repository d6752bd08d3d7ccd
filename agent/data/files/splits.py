"""Which split of a data set a file of a folder belongs to: by the names of files and subfolders, as on the hub."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from agent.data.source import name_without_type

TRAIN = "train"
_WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_BETWEEN_WORDS = re.compile(r"[-._ 0-9]+")
_COMMON_SPLITS = frozenset(
    ("train", "validation", "valid", "val", "dev", "test", "eval", "train_prefs", "train_sft", "test_prefs", "test_sft")
)
_CAPITAL_WORD = re.compile(r"(?<=[a-z])([A-Z])")  # TestSet has two words
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(?![0-9])")
_AS_FOLDERS = "put the files of each split into a subfolder of its name, such as train or test"


class AmbiguousSplitError(Exception):
    """Names that leave the split of a file open. private: the rest of the message, which quotes names of files."""

    def __init__(self, message: str, private: str) -> None:
        super().__init__(f"{message}; {_AS_FOLDERS}")
        self.private = private


def known_splits(names: Iterable[str]) -> str:
    """Name the splits of common names; of the others, whose names are the owner's, only the number leaves."""
    names = list(names)
    common = [name for name in names if name in _COMMON_SPLITS]
    others = len(names) - len(common)
    return ", ".join([*common, *([f"{others} of other names"] if others else [])]) or "none"


def split_files(names: Sequence[str]) -> Mapping[str, list[str]]:
    """Return the names of files by their split, in the order given.

    If no file names a split other than "train", all files are of that split. Raises AmbiguousSplitError.

    names: relative to the folder, with "/" between parts.
    """
    by_split: dict[str, list[str]] = {}
    without: list[str] = []
    for name in names:
        split = _split_of(name)
        (without if split is None else by_split.setdefault(split, [])).append(name)
    others = [split for split in by_split if split != TRAIN]
    if without and others:
        example = by_split[others[0]][0]
        private = f": {example[:60]!r} is of the split {others[0]!r}, {without[0][:60]!r} of none"
        raise AmbiguousSplitError(
            "the names of some files of the folder are those of a split, and others are not", private
        )
    return by_split if others else {TRAIN: list(names)} if names else {}


def _split_of(name: str) -> str | None:
    """The split that a file's name or a subfolder's names; None if they name none. Raises AmbiguousSplitError.

    A name that is a split's decides over one that only contains it: train/dev-notes.csv is for training.
    """
    *folders, file = PurePosixPath(name).parts
    stem = name_without_type(file)
    if (shard := _SHARD.match(stem)) is not None:
        stem = shard[1]
    parts = (*folders, stem)
    found = {_WORDS[part.lower()] for part in parts if part.lower() in _WORDS}
    if not found and shard is not None and _splits_in(stem):
        return stem  # a split with a name of its own, such as train_prefs
    found = found or {split for part in parts for split in _splits_in(part)}
    if len(found) > 1:
        raise AmbiguousSplitError("the name of a file of the folder names several splits", f": {name[:60]!r}")
    return next(iter(found), None)


def _splits_in(part: str) -> set[str]:
    words = _BETWEEN_WORDS.split(_CAPITAL_WORD.sub(r" \1", part).lower())
    return {_WORDS[word] for word in words if word in _WORDS}
