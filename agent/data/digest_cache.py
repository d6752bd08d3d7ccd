"""Digests of large files, cached."""

import json
from pathlib import Path
from typing import Any

from shared.digest import sha256_file
from shared.system.durable import atomic_text


class DigestCache:
    """Digests of files, cached in memory and in the file *path*, by path, file, size and times of change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            entries = json.loads(path.read_bytes())
        except (OSError, ValueError):
            entries = {}
        self._entries: dict[str, list[Any]] = entries if isinstance(entries, dict) else {}

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file. Raises OSError."""
        path = path.resolve()
        stat = path.stat()
        # a copy that keeps the time of another has a time of its own for its inode
        key, version = str(path), [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        entry = self._entries.get(key)
        if isinstance(entry, list) and entry[:-1] == version:
            return str(entry[-1])
        digest = sha256_file(path)
        self._entries[key] = [*version, digest]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic_text(self._path, json.dumps(self._entries), mode=0o600)
        return digest
