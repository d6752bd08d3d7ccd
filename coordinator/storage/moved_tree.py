"""Moves files into place, and takes them back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.system.durable import sync_folder


@contextmanager
def moved_tree(source: Path, target: Path) -> Iterator[None]:
    """Move all files of a folder to the same places in another on the same disk, synced.

    If the block raises, those that were new there are deleted again. Raises OSError.
    """
    placed = []
    folders = {target.parent}
    try:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            final = target / path.relative_to(source)
            final.parent.mkdir(parents=True, exist_ok=True)
            folders |= {folder for folder in final.parents if folder.is_relative_to(target.parent)}
            if not final.exists():
                placed.append(final)
            path.replace(final)
        for folder in folders:
            sync_folder(folder)
        yield
    except BaseException:
        for final in placed:
            final.unlink(missing_ok=True)
        raise
