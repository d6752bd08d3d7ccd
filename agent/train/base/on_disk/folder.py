"""The folder of the base model on this machine, and the files in it.

All files are read from one folder: the one that the settings map the model to, or a snapshot from the hub.
"""

import contextlib
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors
from safetensors import safe_open
from tqdm import tqdm  # type: ignore[import-untyped]

from agent.errors import TaskFailed
from agent.train.base.on_disk.model_files import INDEX_FILE, TEMPLATE_FOLDER, check_model_files, weight_names
from agent.train.base.on_disk.room import check_room
from agent.train.base.refusals import unusable
from agent.train.progress import Reporter
from shared.campaign.spec import BaseSection
from shared.wire.tasks.leases import Phase, Progress

_WEIGHTS = ("model.safetensors", INDEX_FILE)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
_PATTERNS = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    INDEX_FILE,
    *TOKENIZER_FILES,
)
_TEMPLATES = ("chat_template.jinja", "chat_template.json", f"{TEMPLATE_FOLDER}/*.jinja")


def find_folder(
    base: BaseSection, mapped: Path | None, *, refresh: bool, remote_code: bool, remedy: str, report: Reporter
) -> Path:
    """Return the folder of the base model, downloaded from the hub if this machine has none.

    Raises TaskFailed (base-model), whose message ends with what to do.

    Args:
        base: the model and its revision. A model named by an absolute path is that folder.
        mapped: the folder that the settings name for the model, or None.
        refresh: ask the hub even if a snapshot exists, in case the branch has moved.
        remote_code: whether to download code that comes with the model.
        remedy: how a person names the model's folder; it ends error messages.
        report: receives the progress of the download.
    """
    if mapped is None and Path(base.model).is_absolute():
        mapped = Path(base.model)
    folder = mapped or _download(base, refresh=refresh, remote_code=remote_code, remedy=remedy, report=report)
    if not folder.is_dir():
        raise unusable(f"the folder of {base.model} does not exist: {remedy}")
    try:
        check_model_files(folder, remote_code=remote_code)
    except OSError as error:
        raise unusable(f"the folder of {base.model} cannot be read: {remedy}", error) from error
    if not (folder / "config.json").is_file():
        raise unusable(f"the folder of {base.model} has no config.json: {remedy}")
    if (folder / "adapter_config.json").exists():
        message = (
            f"the folder of {base.model} also holds an adapter (adapter_config.json), which would be loaded with it: "
            "give a folder that holds the model alone, or the two merged"
        )
        raise unusable(message)
    weight_files(folder)
    return folder


def _download(base: BaseSection, *, refresh: bool, remote_code: bool, remedy: str, report: Reporter) -> Path:
    patterns = [*_PATTERNS, *_TEMPLATES, *(["*.py"] if remote_code else [])]
    if not refresh:  # rounds continue while the hub is unreachable
        with contextlib.suppress(hub_errors.LocalEntryNotFoundError, hub_errors.HFValidationError):
            return Path(
                huggingface_hub.snapshot_download(
                    base.model, revision=base.revision, allow_patterns=patterns, local_files_only=True
                )
            )
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        message = f"{base.model} could not be downloaded from the hub: nothing may be fetched (HF_HUB_OFFLINE)"
        raise unusable(f"{message}, so {remedy}")
    report(Progress(phase=Phase.FETCHING_MODEL))

    class Meter(tqdm):
        """Reports the downloaded bytes and prints nothing."""

        def display(self, *_args: Any, **_kwargs: Any) -> None:
            return

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            if self.unit == "B" and self.total:
                done, total = int(self.n), int(self.total)
                report(Progress(phase=Phase.FETCHING_MODEL, done=min(done, total), total=total))
            return None

    try:
        with contextlib.suppress(hub_errors.DryRunError):  # the hub did not answer; the download itself says why
            files = huggingface_hub.snapshot_download(
                base.model, revision=base.revision, allow_patterns=patterns, tqdm_class=Meter, dry_run=True
            )
            check_room(base.model, files, remedy)
        return Path(
            huggingface_hub.snapshot_download(
                base.model, revision=base.revision, allow_patterns=patterns, tqdm_class=Meter
            )
        )
    except TaskFailed:
        raise
    except hub_errors.GatedRepoError as error:
        message = f"{base.model} is gated: request access at the hub and set HF_TOKEN on this machine, or {remedy}"
        raise unusable(message) from error
    except hub_errors.RevisionNotFoundError as error:
        message = f"{base.model} has no revision {base.revision}: pin one that exists in the campaign"
        raise unusable(message) from error
    except hub_errors.RepositoryNotFoundError as error:
        message = f"the hub has no {base.model}, or it is private"
        raise unusable(f"{message}: correct its name, set HF_TOKEN on this machine, or {remedy}") from error
    except hub_errors.HFValidationError as error:
        raise unusable(
            f"{base.model} is neither a hub id nor an absolute path: correct its name, or {remedy}"
        ) from error
    except Exception as error:  # of the hub's client, the network or the disk
        message = f"{base.model} could not be downloaded from the hub: check the network, or {remedy}"
        raise unusable(message, error) from error


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers would load, sorted by name. Raises TaskFailed (base-model)."""
    single, index = (folder / name for name in _WEIGHTS)
    if single.is_file():
        return [single]
    if index.is_file():
        names = weight_names(index)
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise unusable(f"{len(missing)} of {len(names)} weight files are missing, {missing[0]} among them")
        return [folder / name for name in names]
    if any(folder.glob("*.bin")):
        raise unusable(
            "the model's folder has only .bin weights, which can run code when they are loaded: "
            "convert them to safetensors (load the model, then save_pretrained)"
        )
    raise unusable(f"the model's folder has no weights: {_WEIGHTS[0]} or {_WEIGHTS[1]} is needed")


def unused_tensors(folder: Path, names: Collection[str]) -> list[str]:
    """Those of some tensors in the weight files, sorted, that are not constants which older versions also stored.

    Such are masks, of truth values or bytes, and single numbers.
    """
    unused: list[str] = []
    for path in weight_files(folder) if names else ():
        with safe_open(path, "pt") as file:
            for name in set(file.keys()) & set(names):
                tensor = file.get_slice(name)
                if tensor.get_dtype() not in ("BOOL", "U8", "I8") and math.prod(tensor.get_shape()) > 1:
                    unused.append(name)
    return sorted(unused)


def companion_files(folder: Path) -> list[Path]:
    """The model's other files: tokenizer, chat templates, generation configuration."""
    patterns = ("generation_config.json", *TOKENIZER_FILES, *_TEMPLATES)
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]
