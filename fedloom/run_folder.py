"""The folder of a run that resumes: NAME.json records what runs in it, NAME.lock keeps other processes out."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedloom.errors import FedloomError
from shared.system.durable import atomic_text, delete_leftovers
from shared.system.private_files import private_folder


class RunFolder:
    """A folder that this process holds the lock of; see ``run_folder``."""

    def __init__(self, folder: Path, name: str, error: Callable[[str], FedloomError]) -> None:
        self._folder = folder
        self._name = name
        self._error = error
        self._state_file = folder / f"{name}.json"

    def begin(
        self, facts: Mapping[str, Any], *, force: bool, is_set_up: Callable[[Mapping[str, Any]], bool] = bool
    ) -> dict[str, Any]:
        """The state of the run that these facts identify, as last written; at first these are the facts alone.

        Args:
            facts: what makes two runs the same, as JSON.
            force: empty the folder and start over, whatever run it holds.
            is_set_up: whether a run with such a state can resume; otherwise the folder is emptied.

        Raises the folder's error if it holds something else or another run, and OSError.
        """
        facts = json.loads(json.dumps(facts))
        delete_leftovers(self._state_file)
        self._refuse_other_content()
        private_folder(self._folder)  # it holds the owners' rows
        known = None if force else self._read()
        if known is not None and is_set_up(known):
            if different := [name for name, value in facts.items() if known.get(name) != value]:
                raise self._error(
                    f"{self._folder} holds another {self._name}, which differs in: {', '.join(different)}; "
                    "give another folder with --out, or start over with --force"
                )
            return known
        self._clear()
        self.write(facts)
        return dict(facts)

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the state. Raises OSError."""
        atomic_text(self._state_file, json.dumps(state, indent=2) + "\n")

    def _refuse_other_content(self) -> None:
        if not self._state_file.exists() and not all(map(self._is_lock, self._folder.iterdir())):
            raise self._error(
                f"{self._folder} holds something that is not a {self._name}; give another folder with --out"
            )

    def _read(self) -> dict[str, Any] | None:
        """The state, None in a new folder. Raises the folder's error if it cannot be read."""
        try:
            known = json.loads(self._state_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            known = None
        if not isinstance(known, dict):
            raise self._error(f"{self._state_file} cannot be read; start over with --force")
        return known

    def _clear(self) -> None:
        self.write({})  # so that nothing resumes, and all may be deleted, if this is cut short
        for path in self._folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != self._state_file and not self._is_lock(path):
                path.unlink()

    def _is_lock(self, path: Path) -> bool:
        return path.name == _lock_file(self._folder, self._name).name


@contextmanager
def run_folder(folder: Path, name: str, error: Callable[[str], FedloomError]) -> Iterator[RunFolder]:
    """Hold *folder* for the length of the block. It is created, if needed.

    name: the kind of run, as in ``simulation``. error: the exception to raise, given its message. Raises it if another
    process holds the folder, and OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        lock = FileLock(_lock_file(folder, name), thread_local=False).acquire(timeout=0)
    except Timeout as timeout:
        raise error(f"another process runs the {name} in {folder}") from timeout
    with lock:
        yield RunFolder(folder, name, error)


def _lock_file(folder: Path, name: str) -> Path:
    """The lock's file. It stays: where it is deleted, two processes may hold locks on two files of this name."""
    return folder / f"{name}.lock"
