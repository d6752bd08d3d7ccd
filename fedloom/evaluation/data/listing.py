"""What each task needs and what of it is here."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fedloom.evaluation.tasks.base import BadData, DataFile, DataMissing, Task
from fedloom.evaluation.tasks.files.finding import find
from shared.digest import sha256_file

State = Literal["here", "missing", "not needed", "unusable"]
Edition = Literal["published", "other", "unknown"]
"""Of the digest of a file: the published one; another, as slices and other layouts have; or none is published."""


@dataclass(frozen=True)
class ListedFile:
    """A data file.

    Args:
        file: what a task reads.
        state: ``not needed``: what it would be read in the place of is here.
        path: where it is, below the folder of data; None if it is not here.
        sha256: of the file that is here.
        edition: whether that is the published digest; None if the file is not here.
    """

    file: DataFile
    state: State
    path: str | None
    sha256: str | None
    edition: Edition | None


@dataclass(frozen=True)
class ListedTask:
    """A task. n_here: items that can be read; None if it cannot run. problem: why it cannot."""

    task: Task
    files: list[ListedFile]
    n_here: int | None
    problem: str


def listed(tasks: Iterable[Task], data: Path) -> Iterator[ListedTask]:
    """Each task with its files, read to see whether they can be used."""
    digests: dict[str, str] = {}  # of files by path: several tasks read one
    for task in tasks:
        n_here, problem = None, ""
        try:
            found = task.load(data)
            n_here = len(found.items)
            digests.update(found.digests)
        except (DataMissing, BadData) as error:
            problem = str(error)
        files = [_file(file, data, digests) for file in task.files]
        yield ListedTask(task, [_needed(each, files) for each in files], n_here, problem)


def _file(file: DataFile, data: Path, digests: dict[str, str]) -> ListedFile:
    try:
        path = find(data, file)
        if path is None:
            return ListedFile(file, "missing", None, None, None)
        if path not in digests:
            digests[path] = sha256_file(data / path)
        sha256 = digests[path]
    except (BadData, OSError):  # the task itself says why
        return ListedFile(file, "unusable", None, None, None)
    return ListedFile(file, "here", path, sha256, _edition(file, sha256))


def _edition(file: DataFile, sha256: str) -> Edition:
    if not file.sha256:
        return "unknown"
    return "published" if sha256 in file.sha256 else "other"


def _needed(each: ListedFile, files: Sequence[ListedFile]) -> ListedFile:
    """A file as it is, or as one that need not be here because what it is read in the place of is."""
    here = {other.file.path for other in files if other.state == "here"}
    is_needed = each.state != "missing" or each.file.instead_of not in here
    return each if is_needed else replace(each, state="not needed")
