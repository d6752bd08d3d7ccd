"""The folder of an evaluation: one run at a time, and what came of each item."""

import errno
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from fedloom.errors import EvaluationError
from fedloom.evaluation.tasks.base import Outcome
from fedloom.run_folder import run_folder
from shared.system.durable import atomic_text

_ITEMS = "items"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock the folder for one run. Raises EvaluationError if another one has it, and OSError, which says what to do
    where the disk is full."""
    with _full_disk_in_words(folder), run_folder(folder, "evaluation", EvaluationError):
        yield


@contextmanager
def _full_disk_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        words = f"{error.strerror}; what is there stays usable: make space, and the same command goes on"
        raise OSError(error.errno, words, str(error.filename or folder)) from error


def write_items(folder: Path, task: str, model: str, outcomes: Sequence[Outcome]) -> None:
    """Write what came of each item: the replies are the model's, prompts are there by digest. Raises OSError."""
    path = _path(folder, task, model)
    for each in (path.parent.parent, path.parent):
        each.mkdir(mode=0o700, exist_ok=True)
    lines = [json.dumps(asdict(each) | {"flags": sorted(each.flags)}, ensure_ascii=False) for each in outcomes]
    atomic_text(path, "".join(f"{line}\n" for line in lines), mode=0o600)


def delete_other_items(folder: Path, written: Iterable[tuple[str, str]]) -> None:
    """Delete the items of tasks and models that an earlier run had and this one has not. Raises OSError.

    written: tasks and models of this run. Replies stay: they are found by what was asked, and cannot be mixed up.
    """
    own = {_path(folder, task, model) for task, model in written}
    for path in (folder / _ITEMS).glob("*/*.jsonl"):
        if path not in own:
            path.unlink(missing_ok=True)
    for task_folder in (folder / _ITEMS).glob("*"):
        if task_folder.is_dir() and not any(task_folder.iterdir()):
            task_folder.rmdir()


def _path(folder: Path, task: str, model: str) -> Path:
    return folder / _ITEMS / task / f"{model}.jsonl"
