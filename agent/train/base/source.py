"""Where the base model's files are on this machine, and their fingerprint.

Everything is read from one folder: the one that the settings map the model to, or a snapshot of the hub.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors
from tqdm import tqdm  # type: ignore[import-untyped]

from agent.child import ChildProgress
from agent.errors import TaskFailed
from shared.campaign import BaseSection
from shared.digest import sha256_file, sha256_hex, sha256_of_parts
from shared.durable import atomic_text
from shared.wire.jobs import Fingerprint
from shared.wire.leases import FailureKind, Phase, Progress

Reporter = Callable[[ChildProgress], None]

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_TOKENIZER = (
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
)
_PATTERNS = ("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json", *_TOKENIZER)
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")

# Keys that differ between two copies of the same thing: where it lay, and which library wrote it.
_VOLATILE_CONFIG = {"_name_or_path", "transformers_version", "torch_dtype", "dtype"}
_VOLATILE_TOKENIZER = {"name_or_path", "transformers_version", "is_local", "local_files_only", "chat_template"}

log = logging.getLogger(__name__)


def _unusable(message: str) -> TaskFailed:
    return TaskFailed(FailureKind.BASE_MODEL, message)


def find_folder(
    base: BaseSection, mapped: Path | None, *, refresh: bool, remote_code: bool, remedy: str, report: Reporter
) -> Path:
    """The folder with the base model's files, fetched from the hub where it is not on this machine.

    mapped: the folder that the settings name for it. A model that is named by an absolute path is that folder. refresh:
    ask the hub even where a snapshot is here already, in case its branch has moved. remedy: how to say where the model
    lies, for the errors. Raises TaskFailed (base-model) that says what to do.
    """
    if mapped is None and Path(base.model).is_absolute():
        mapped = Path(base.model)
    folder = mapped or _fetch(base, refresh=refresh, remote_code=remote_code, remedy=remedy, report=report)
    if not folder.is_dir():
        # without its path, which is nobody's business outside
        raise _unusable(f"the folder of {base.model} is not here: {remedy}")
    if not (folder / "config.json").is_file():
        raise _unusable(f"the folder of {base.model} has no config.json: {remedy}")
    weight_files(folder)
    return folder


def _fetch(base: BaseSection, *, refresh: bool, remote_code: bool, remedy: str, report: Reporter) -> Path:
    patterns = [*_PATTERNS, *_TEMPLATES, *(["*.py"] if remote_code else [])]
    if not refresh:  # rounds go on while the hub is away
        with contextlib.suppress(hub_errors.LocalEntryNotFoundError, hub_errors.HFValidationError):
            return Path(
                huggingface_hub.snapshot_download(
                    base.model, revision=base.revision, allow_patterns=patterns, local_files_only=True
                )
            )
    report(Progress(phase=Phase.FETCHING_MODEL))

    class Meter(tqdm):
        """Counts the downloaded bytes and shows nothing."""

        def display(self, *_args: Any, **_kwargs: Any) -> None:
            return

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            if self.unit == "B" and self.total:
                done, total = int(self.n), int(self.total)
                report(Progress(phase=Phase.FETCHING_MODEL, done=min(done, total), total=total))
            return None

    try:
        return Path(
            huggingface_hub.snapshot_download(
                base.model, revision=base.revision, allow_patterns=patterns, tqdm_class=Meter
            )
        )
    except hub_errors.GatedRepoError as error:
        message = f"{base.model} is gated: ask for access at the hub and set HF_TOKEN here, or {remedy}"
        raise _unusable(message) from error
    except hub_errors.RevisionNotFoundError as error:
        message = f"{base.model} has no revision {base.revision}: pin one that exists in the campaign"
        raise _unusable(message) from error
    except hub_errors.RepositoryNotFoundError as error:
        message = f"the hub has no {base.model}, or it is private: correct its name, set HF_TOKEN here, or {remedy}"
        raise _unusable(message) from error
    except hub_errors.HFValidationError as error:
        raise _unusable(
            f"{base.model} is neither a hub id nor an absolute path: correct its name, or {remedy}"
        ) from error
    except Exception as error:  # the client's own errors, the network's, and the disk's
        reason = str(error).strip().split("\n", 1)[0]
        message = f"{base.model} could not be fetched from the hub: check the network, or {remedy} ({reason})"
        raise _unusable(message) from error


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers would load, sorted by name. Raises TaskFailed (base-model)."""
    whole, index = (folder / name for name in _WEIGHTS)
    if whole.is_file():
        return [whole]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise _unusable(f"{index.name} is not a safetensors index") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise _unusable(f"{len(missing)} of {len(names)} weight files are missing, {missing[0]} among them")
        return [folder / name for name in names]
    if any(folder.glob("*.bin")):
        raise _unusable(
            "the model's folder has only .bin weights, which can run code when they are loaded: "
            "convert them to safetensors (load the model, then save_pretrained)"
        )
    raise _unusable(f"the model's folder has no weights: {_WEIGHTS[0]} or {_WEIGHTS[1]} is needed")


def companion_files(folder: Path) -> list[Path]:
    """The files of a model beside its weights and its configuration: tokenizer, templates, how it generates."""
    patterns = ("generation_config.json", *_TOKENIZER, *_TEMPLATES)
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]


class Digests:
    """Digests of large files, remembered by path, size and time of change, on disk too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            known = json.loads(path.read_bytes())
        except (OSError, ValueError):
            known = {}
        self._known: dict[str, list[Any]] = known if isinstance(known, dict) else {}

    def of(self, path: Path) -> str:
        """The SHA-256 of a file. Raises OSError."""
        path = path.resolve()
        stat = path.stat()
        key, stamp = str(path), [stat.st_size, stat.st_mtime_ns]
        entry = self._known.get(key)
        if isinstance(entry, list) and entry[:2] == stamp:
            return str(entry[2])
        digest = sha256_file(path)
        self._known[key] = [*stamp, digest]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic_text(self._path, json.dumps(self._known))
        return digest


def fingerprint(folder: Path, tokenizer: Any, digests: Digests) -> Fingerprint:
    """Digests of the model in *folder*; *tokenizer* is the one loaded from it. Raises TaskFailed (base-model)."""
    weights = [part for path in weight_files(folder) for part in (path.name, digests.of(path))]
    config = _canonical(folder / "config.json", _VOLATILE_CONFIG)
    parts: list[str] = []
    for name in _TOKENIZER:
        path = folder / name
        if path.is_file():
            same = name == "tokenizer_config.json"
            parts += [name, sha256_hex(_canonical(path, _VOLATILE_TOKENIZER)) if same else digests.of(path)]
    template = tokenizer.chat_template or ""
    if not isinstance(template, str):  # several, by name
        template = json.dumps(template, sort_keys=True)
    return Fingerprint(
        weights=sha256_of_parts(weights),
        config=sha256_hex(config),
        tokenizer=sha256_of_parts(parts),
        template=hashlib.sha256(template.encode()).hexdigest(),
    )


def _canonical(path: Path, volatile: set[str]) -> bytes:
    try:
        content = json.loads(path.read_bytes())
        kept = {key: value for key, value in content.items() if key not in volatile}
    except (ValueError, AttributeError) as error:
        raise _unusable(f"{path.name} is not a JSON object") from error
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()


def check_same(found: Fingerprint, expected: Fingerprint, remedy: str = "use the same revision everywhere") -> None:
    """Raise TaskFailed (fingerprint) where the base model here is not the campaign's."""
    if different := found.differences(expected):
        raise TaskFailed(
            FailureKind.FINGERPRINT,
            f"the base model here differs from the campaign's in its {', '.join(different)}: {remedy}",
        )
