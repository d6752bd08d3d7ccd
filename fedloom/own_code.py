"""Code of one's own, named as FILE.py:NAME: a task of an evaluation, a metric of a report."""

import importlib.util
from pathlib import Path
from typing import Any


class OwnCodeProblem(Exception):
    """The file cannot be imported, or has nothing of that name. The text says which, and begins with the file."""


def load(path: Path, name: str) -> Any:
    """What a Python file calls *name*; None if it has no such name. Raises OwnCodeProblem.

    The file runs with the rights of whoever named it.
    """
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise OwnCodeProblem(f"{path}: there is no such file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise OwnCodeProblem(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return getattr(module, name, None)
