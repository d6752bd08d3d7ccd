"""Functions and classes in a file of the user's own, named FILE.py:NAME. What they print goes to stderr."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any


class OwnCodeFailed(Exception):
    """A file cannot be imported. The text says why."""


@contextmanager
def own_code() -> Iterator[None]:
    """Around a call of the user's code: stdout stays the command's, and so does the current folder.

    Turns SystemExit, and what else is no Exception, into OwnCodeFailed: the command must not end there as if it were
    done, nor in a traceback. Ctrl-C stays what it is.
    """
    before = _current_folder()
    try:
        with redirect_stdout(sys.stderr):
            yield
    except SystemExit as error:
        raise OwnCodeFailed("it called sys.exit") from error
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise OwnCodeFailed(f"{type(error).__name__}: {error}") from error
    finally:
        if before is not None:
            _return_to(before)


def _current_folder() -> Path | None:
    """The current folder; None if somebody deleted it."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _return_to(folder: Path) -> None:
    """Make a folder the current one again. Raises OwnCodeFailed if it is gone."""
    try:
        os.chdir(folder)
    except FileNotFoundError as error:
        raise OwnCodeFailed(f"it deleted the current folder, {folder}") from error


def attribute_of(path: Path, name: str) -> Any:
    """What a file calls by a name; None if it has none of that name. Raises OwnCodeFailed.

    path: of the file.
    """
    module_name = f"fedloom_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise OwnCodeFailed(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    try:
        with own_code():
            spec.loader.exec_module(module)
    except OwnCodeFailed as error:
        del sys.modules[module_name]
        raise OwnCodeFailed(f"{path} cannot be imported: {error}") from error
    except Exception as error:
        del sys.modules[module_name]
        raise OwnCodeFailed(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return getattr(module, name, None)
