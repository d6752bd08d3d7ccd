"""Folders that are whole or not there: filled under another name, and renamed into place."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloom.errors import FolderNotEmpty
from shared.durable import sync_folder, sync_tree


@contextmanager
def atomic_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """An empty folder to fill, which becomes *folder* at the end of the block, and is gone where the block fails.

    force: replace what is there; without it only an empty folder is. Raises errors.FolderNotEmpty, before the block
    where it can, and OSError.
    """
    folder = folder.absolute()
    if not force and _is_taken(folder):
        raise FolderNotEmpty(folder)
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
        folder.rmdir()  # Windows renames onto nothing, not even onto an empty folder
    if not folder.exists():
        draft.rename(folder)
        return
    if not force:  # it came into being meanwhile
        raise FolderNotEmpty(folder)
    old = draft.with_name(draft.name + ".old")
    folder.rename(old)
    try:
        draft.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink()
