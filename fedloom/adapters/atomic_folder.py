"""Folders that appear complete or not at all: filled under another name, then renamed."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloom.errors import FolderNotEmpty
from shared.durable import sync_folder, sync_tree


@contextmanager
def atomic_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """An empty folder to fill. It becomes *folder* at the end of the block, and is deleted if the block fails.

    force: replace an existing folder; without it only an empty one is replaced. Raises errors.FolderNotEmpty, before
    the block if the folder exists then, and OSError.
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
        folder.rmdir()  # Windows cannot rename onto an existing folder, not even an empty one
    if not folder.exists():
        draft.rename(folder)
        return
    if not force:  # created while the block ran
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
