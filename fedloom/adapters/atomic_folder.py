"""Folders that appear complete or not at all: filled under another name, then renamed."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloom.errors import FolderNotEmpty
from shared.system.durable import sync_folder, sync_tree


@contextmanager
def atomic_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """An empty folder to fill. It becomes *folder* at the end of the block, and is deleted if the block fails.

    Raises errors.FolderNotEmpty, before the block if the folder exists then, and OSError.

    Args:
        folder: where the folder appears.
        force: replace a folder of weights; without it only an empty one is replaced. A folder of anything else, such as
            an agent's home, is never deleted.
    """
    folder = folder.absolute()
    _check_replaceable(folder, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        yield draft
        sync_tree(draft)
        _put_in_place(draft, folder, force=force)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_taken(folder: Path) -> bool:
    return folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None)


def _put_in_place(draft: Path, folder: Path, *, force: bool) -> None:
    if folder.is_dir() and not _is_taken(folder):
        folder.rmdir()  # Windows cannot rename onto an existing folder, not even an empty one
    if not folder.exists():
        draft.rename(folder)
        return
    _check_replaceable(folder, force=force)  # it may be created while the block ran
    old = draft.with_name(draft.name + ".old")
    folder.rename(old)
    try:
        draft.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def _check_replaceable(folder: Path, *, force: bool) -> None:
    """Raise FolderNotEmpty if a folder exists and must stay."""
    if _is_taken(folder) and not (force and _has_weights_alone(folder)):
        raise FolderNotEmpty(folder, is_forced=force)


def _has_weights_alone(folder: Path) -> bool:
    """Whether it looks like what is written here: files alone, and weights among them."""
    files = list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    return any(file.suffix == ".safetensors" for file in files) and all(file.is_file() for file in files)
