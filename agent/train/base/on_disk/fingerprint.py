"""The fingerprint of a base model: digests of its weights, configuration, tokenizer and chat template."""

import hashlib
import json
from pathlib import Path
from typing import Any

from agent.data.digest_cache import DigestCache
from agent.errors import TaskFailed
from agent.train.base.on_disk.folder import TOKENIZER_FILES, weight_files
from shared.digest import sha256_hex, sha256_of_parts
from shared.wire.tasks.leases import FailureKind
from shared.wire.tasks.results import Fingerprint

# Keys that differ between two copies of the same model: where a copy was stored, and which library wrote it.
_VOLATILE_CONFIG = {"_name_or_path", "transformers_version", "torch_dtype", "dtype"}
_PROBES = (
    "The river that runs through  Paris\tis the Seine, isn't it?\n\nYes: 1,234.5 km² — naïve café, 67 Jahre, 39,2 °C.",
    "def add(a, b):\n    return a + b\n",
    " 他今天好多了。 Привет! مرحبا 🙂👩‍⚕️ x²",
)
_REPEATS = 3
_VOLATILE_TOKENIZER = {"name_or_path", "transformers_version", "is_local", "local_files_only", "chat_template"}


def fingerprint(folder: Path, tokenizer: Any, digests: DigestCache, *, remote_code: bool) -> Fingerprint:
    """Digest the model in *folder*; *tokenizer* is the one loaded from it. Raises TaskFailed (base-model)."""
    weights = [part for path in weight_files(folder) for part in (path.name, digests.sha256(path))]
    config = sha256_hex(_canonical_json(folder / "config.json", _VOLATILE_CONFIG))
    if remote_code and (code := sorted(folder.glob("*.py"))):  # what runs is a part of the architecture
        config = sha256_of_parts([config, *(part for path in code for part in (path.name, digests.sha256(path)))])
    parts: list[str] = []
    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_file():
            is_config = name == "tokenizer_config.json"
            canonical = sha256_hex(_canonical_json(path, _VOLATILE_TOKENIZER)) if is_config else digests.sha256(path)
            parts += [name, canonical]
    parts.append(_behaviour(tokenizer))
    template = tokenizer.chat_template or ""
    if not isinstance(template, str):  # several templates, by name
        template = json.dumps(template, sort_keys=True)
    return Fingerprint(
        weights=sha256_of_parts(weights),
        config=config,
        tokenizer=sha256_of_parts(parts),
        template=hashlib.sha256(template.encode()).hexdigest(),
    )


def _behaviour(tokenizer: Any) -> str:
    """Digest the tokens of a few texts: two versions of a library may read the same files differently.

    Raises TaskFailed (base-model) if the tokens are drawn at random.
    """
    texts = [*_PROBES, "".join(map(str, tokenizer.all_special_tokens))]

    def tokens() -> list[Any]:
        return [tokenizer(texts, add_special_tokens=special)["input_ids"] for special in (False, True)]

    first = tokens()
    if any(tokens() != first for _ in range(_REPEATS)):
        message = (
            "the base model's tokenizer draws the tokens of a text at random: set model.dropout in tokenizer.json to "
            "null, or remove enable_sampling from tokenizer_config.json"
        )
        raise TaskFailed(FailureKind.BASE_MODEL, message)
    return sha256_hex(json.dumps(first).encode())


def _canonical_json(path: Path, volatile: set[str]) -> bytes:
    """The JSON object in a file without its *volatile* keys, sorted and without white space."""
    try:
        content = json.loads(path.read_bytes())
        stable = {key: value for key, value in content.items() if key not in volatile}
    except (ValueError, AttributeError) as error:
        raise TaskFailed(FailureKind.BASE_MODEL, f"{path.name} is not a JSON object") from error
    return json.dumps(stable, sort_keys=True, separators=(",", ":")).encode()


def check_fingerprint(
    actual: Fingerprint, expected: Fingerprint, remedy: str = "use the same revision everywhere"
) -> None:
    """Raise TaskFailed (fingerprint) if the base model on this machine is not the campaign's."""
    if differences := actual.differences(expected):
        raise TaskFailed(
            FailureKind.FINGERPRINT,
            f"the base model on this machine differs from the campaign's in its {', '.join(differences)}: {remedy}",
        )
