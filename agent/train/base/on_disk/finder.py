"""Finds a base model on this machine: its folder, its tokenizer, its fingerprint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.base_names import check_campaign_base
from agent.data.digest_cache import DigestCache
from agent.train.base.architecture import check_architecture
from agent.train.base.limits import InputLimits, read_limits
from agent.train.base.model import load_tokenizer
from agent.train.base.on_disk.fingerprint import fingerprint
from agent.train.base.on_disk.folder import find_folder
from agent.train.progress import Reporter
from shared.campaign.spec import BaseSection
from shared.wire.tasks.leases import Phase, Progress
from shared.wire.tasks.results import Fingerprint


@dataclass(frozen=True)
class BaseFiles:
    """A base model on this machine. Its weights are not loaded. limits: what its configuration allows of its input."""

    folder: Path
    tokenizer: Any
    fingerprint: Fingerprint
    limits: InputLimits


class BaseFinder:
    """Finds base models, and caches the tokenizer and the limits of the latest one."""

    def __init__(self) -> None:
        self._latest: dict[object, tuple[Any, InputLimits]] = {}

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
        may_be_path: bool = False,
    ) -> BaseFiles:
        """Return the files of *base*, downloaded if they are missing. Raises TaskFailed (base-model).

        Args:
            base: the model and its revision.
            mapped: the folder that the settings name for the model, or None.
            cache: the folder of the digest cache.
            refresh: ask the hub even if a snapshot exists, in case the branch has moved.
            remote_code: whether code that comes with the model may run.
            remedy: how a person names the model's folder; it ends error messages.
            report: receives the progress of a download, and that the files are read.
            may_be_path: whether *base* may name a folder of this machine: only if a person at it named the model.
        """
        if not may_be_path:
            check_campaign_base(base, is_mapped=mapped is not None)
        folder = find_folder(base, mapped, refresh=refresh, remote_code=remote_code, remedy=remedy, report=report)
        check_architecture(folder, remote_code=remote_code)
        tokenizer, limits = self._read(folder, remote_code=remote_code, report=report)
        digests = DigestCache(cache / "digests.json")
        return BaseFiles(folder, tokenizer, fingerprint(folder, tokenizer, digests, remote_code=remote_code), limits)

    def _read(self, folder: Path, *, remote_code: bool, report: Reporter) -> tuple[Any, InputLimits]:
        """The tokenizer in *folder*, and the model's limits, read again only if a file changed."""
        stats = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
        files = frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items())
        key = (folder, remote_code, files)
        if key not in self._latest:
            report(Progress(phase=Phase.READING_MODEL))  # so are the digests, where a file has none yet
            tokenizer = load_tokenizer(folder, remote_code=remote_code)
            self._latest = {key: (tokenizer, read_limits(folder, remote_code=remote_code))}
        return self._latest[key]
