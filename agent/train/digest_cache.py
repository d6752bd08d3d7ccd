"""Digests of large files, cached."""

import json
from pathlib import Path
from typing import Any

from agent.train.files import atomic_write
from shared.digest import sha256_file


class DigestCache:
    """Digests of files, cached in memory and in the file *path*, by path, size and time of change."""

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
        key, version = str(path), [stat.st_size, stat.st_mtime_ns]
        entry = self._entries.get(key)
        if isinstance(entry, list) and entry[:2] == version:
            return str(entry[2])
        digest = sha256_file(path)
        self._entries[key] = [*version, digest]
        text = json.dumps(self._entries)
        atomic_write(self._path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        return digest
