"""Where a file is below the folder of evaluation data, and what is said if it is not there."""

from pathlib import Path
from stat import S_ISDIR, S_ISREG

from fedloom.evaluation.tasks.base import BadData, DataFile, DataMissing

LAYOUTS = (".csv", ".json", ".jsonl", ".jsonl.gz", ".parquet")
"""Of files of rows. Each is read in the place of any other."""


def find(data: Path, file: DataFile) -> str | None:
    """The path of a file below the folder of data, in its own layout or another; None if it is not there.

    Raises BadData if what is there is no file.
    """
    return next((path for path in _places(file) if _is_file(data / path, path)), None)


def missing(data: Path, file: DataFile, *instead: DataFile) -> DataMissing:
    """What is said if a file is not there. instead: what would be read in its place."""
    words = f"put {file.path} into {data}" + (f": {file.where}" if file.where else "")
    if layout := _layout(file):
        others = [other for other in LAYOUTS if other not in (layout, ".jsonl.gz")]
        words += f" (or the same rows as {', '.join(others[:-1])} or {others[-1]})"
    return DataMissing("; or ".join([words, *(f"{other.path}: {other.where}" for other in instead)]))


def unreadable(path: str, error: OSError | ValueError) -> BadData:
    """What is said if the system does not let a file be read."""
    return BadData(f"{path} cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}")


def in_layout(file: DataFile, layout: str) -> str:
    """The path of a file of rows in a layout."""
    return file.path.removesuffix(_layout(file)) + layout


def _places(file: DataFile) -> list[str]:
    layout = _layout(file)
    others = [in_layout(file, other) for other in LAYOUTS if layout and other != layout]
    return [file.path, *others, *file.also]


def _layout(file: DataFile) -> str:
    """The suffix of a file of rows; empty for other files."""
    return next((layout for layout in LAYOUTS if file.path.endswith(layout) and not file.is_text), "")


def _is_file(path: Path, shown: str) -> bool:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise BadData(f"{shown} is a link to a file that is not there") from None
        return False
    except (OSError, ValueError) as error:
        raise unreadable(shown, error) from None
    if not S_ISREG(mode):
        raise BadData(f"{shown} is a folder, and not a file" if S_ISDIR(mode) else f"{shown} is not a regular file")
    return True
