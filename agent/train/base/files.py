"""A base model as files: its folder on this machine, its tokenizer, its fingerprint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.train.base.model import load_tokenizer
from agent.train.base.source import Digests, Reporter, find_folder, fingerprint
from shared.campaign import BaseSection
from shared.wire.jobs import Fingerprint


@dataclass(frozen=True)
class BaseFiles:
    """A base model whose weights need not be loaded."""

    folder: Path
    tokenizer: Any
    fingerprint: Fingerprint


class Finder:
    """Finds base models, and keeps the tokenizer of the latest."""

    def __init__(self) -> None:
        self._tokenizers: dict[object, Any] = {}

    def find(
        self,
        base: BaseSection,
        mapped: Path | None,
        cache: Path,
        *,
        refresh: bool,
        remote_code: bool,
        remedy: str,
        report: Reporter,
    ) -> BaseFiles:
        """The files of *base*, fetched where they are not here. See ``find_folder``; cache: where digests are kept.

        Raises TaskFailed (base-model).
        """
        folder = find_folder(base, mapped, refresh=refresh, remote_code=remote_code, remedy=remedy, report=report)
        tokenizer = self._tokenizer(folder, remote_code=remote_code)
        return BaseFiles(folder, tokenizer, fingerprint(folder, tokenizer, Digests(cache / "digests.json")))

    def _tokenizer(self, folder: Path, *, remote_code: bool) -> Any:
        """The tokenizer in *folder*, loaded once for these files."""
        stats = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
        files = frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items())
        key = (folder, remote_code, files)
        if key not in self._tokenizers:
            self._tokenizers = {key: load_tokenizer(folder, remote_code=remote_code)}
        return self._tokenizers[key]
