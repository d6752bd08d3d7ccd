"""The data folder is for the coordinator's user alone: adapters, updates and hashes of secrets are in it."""

from pathlib import Path

from shared.system.private_files import private_folder, tighten

DATABASE_FILE = "fedloom.db"
KEY_FILE = "operator.key"
SIGNING_KEY_FILE = "signing.key"
_OWN = (
    *(DATABASE_FILE + suffix for suffix in ("", "-wal", "-shm", "-journal")),
    *(KEY_FILE, SIGNING_KEY_FILE, "updates", "uploads", "scratch", "restore.part", "engine", "engine.lock"),
)
"""What a coordinator keeps in the folder. What a person put beside it stays as it is, but nobody else reaches it."""


def open_data_folder(folder: Path) -> None:
    """Create the folder. Or withdraw the rights of others to an existing one, and to the coordinator's files in it.

    An older version, a copy or a careless umask may have left it open. Raises PermissionError, with what to do, if the
    folder belongs to another user, and OSError.
    """
    private_folder(folder)
    for name in _OWN:
        tighten(folder / name)
