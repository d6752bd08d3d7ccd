"""Room on the disk for a base model from the hub, checked before its first byte."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import DryRunFileInfo, constants

from agent.train.base.refusals import unusable

_RESERVE_BYTES = 1 << 30
"""Bytes that stay free, for the training itself."""


def check_room(model: str, files: Iterable[DryRunFileInfo], remedy: str) -> None:
    """Raise TaskFailed (base-model) if the files that a download would fetch do not fit on the disk of the hub's cache.

    Args:
        model: the hub id.
        files: all files of the download, as the hub's client lists them.
        remedy: how a person names the model's folder; it ends the message.
    """
    n_bytes = sum(file.file_size or 0 for file in files if file.will_download)
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(each for each in (cache, *cache.absolute().parents) if each.exists())).free
    # an earlier try has left its part, which this one continues or replaces
    begun = (cache / f"models--{model.replace('/', '--')}" / "blobs").glob("*.incomplete")
    room = max(0, free + sum(part.stat().st_size for part in begun) - _RESERVE_BYTES)
    if n_bytes > room:
        message = f"{model} needs {n_bytes:,} bytes more on the disk of this agent, which has room for {room:,}"
        raise unusable(f"{message}: free some, set HF_HOME to a folder on a larger disk, or {remedy}")
