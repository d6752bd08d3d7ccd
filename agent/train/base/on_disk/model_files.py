"""The files of a base model's folder: all that is read is a plain file of this folder, whatever its files name.

A model comes from others, and digests of its files leave this machine. A link in its folder, or a name in one of its
files, could lead to any file of the owner's: its digest would leave, or the words of a refusal would tell whether it
exists. So everything that leads out of the folder is refused with one text, and before it is opened.
"""

import json
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.errors import TaskFailed
from agent.plain_names import is_plain_name
from agent.train.base.refusals import unusable

TEMPLATE_FOLDER = "additional_chat_templates"
INDEX_FILE = "model.safetensors.index.json"
_CONFIG, _TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
_NAMING_FILES = (_CONFIG, _TOKENIZER_CONFIG, "special_tokens_map.json", "generation_config.json", INDEX_FILE)
"""Files in which the libraries find names of further files."""
_MAX_BYTES = 64 << 20
"""The largest of these files; the index of the largest models has a few megabytes."""
_OWN_CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_TEXT_NAMES_FILE = ("vocab", "merges", "init_inputs", "transformers_weights", "gguf_file")
"""Keys whose text the libraries take for a file's name, beside those that end in ``_file`` or ``_files``."""


def check_model_files(folder: Path, *, remote_code: bool) -> None:
    """Raise TaskFailed (base-model) if anything in *folder* leads to something else than a plain file of it.

    Of a snapshot in the hub's cache, the files are links to blobs of the same repository.

    remote_code: whether code that comes with the model may run.
    """
    home = _home(folder)
    for path in _entries(folder):
        if not _is_own_file(path, home):
            raise _leads_out()
    contents = {name: content for name in _NAMING_FILES if (content := _content(folder / name)) is not None}
    for name, content in contents.items():
        _check_names(content, is_top=name == _TOKENIZER_CONFIG)
    if remote_code:
        for name in (_CONFIG, _TOKENIZER_CONFIG):
            _check_code(contents.get(name, {}), name)


def weight_names(index: Path) -> list[str]:
    """The names of the weight files in an index, sorted, without repetitions. Raises TaskFailed (base-model)."""
    weights = (_content(index) or {}).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise unusable(f"{index.name} is not a safetensors index")
    if not all(is_plain_name(name, ".safetensors") for name in weights.values()):
        raise _leads_out()
    return sorted(set(weights.values()))


def ignored_names(folder: Path) -> dict[str, None]:
    """Arguments for the tokenizer's reader, by which it ignores names of files that its configuration has.

    Many tokenizers name there where their author had them. The folder's own files are found without.
    """
    return {
        key: None for key, value in (_content(folder / _TOKENIZER_CONFIG) or {}).items() if _is_file_key(key, value)
    }


def _home(folder: Path) -> Path:
    """The folder that everything must lie in: the folder itself, or the repository in the hub's cache."""
    home = folder.resolve()
    in_cache = home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--")
    return home.parent.parent if in_cache else home


def _entries(folder: Path) -> Iterator[Path]:
    """What the libraries may read: all but subfolders, of which they read the one of templates alone."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from sorted(path.iterdir()) if path.name == TEMPLATE_FOLDER else ()
        else:
            yield path


def _is_own_file(path: Path, home: Path) -> bool:
    try:
        resolved = path.resolve()  # before anything asks whether it exists
        if not resolved.is_relative_to(home):
            return False
        mode = resolved.stat().st_mode
    except (OSError, RuntimeError):
        return False
    return stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not path.is_symlink())


def _content(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no such file, or another value. Raises TaskFailed (base-model)."""
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > _MAX_BYTES:
            raise unusable(f"{path.name} of the base model has more than {_MAX_BYTES >> 20} MiB")
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None  # whoever needs the file says so
    except OSError as error:
        raise unusable(f"{path.name} of the base model cannot be read", error) from error
    return content if isinstance(content, dict) else None


def _check_names(content: Mapping[str, Any], *, is_top: bool) -> None:
    """Raise TaskFailed (base-model) if an object names further files. is_top: whether ``ignored_names`` covers it."""
    parts: list[tuple[Any, bool]] = [(content, is_top)]
    while parts:
        part, is_covered = parts.pop()
        if isinstance(part, list):
            parts += [(each, False) for each in part if isinstance(each, dict | list)]
        if not isinstance(part, dict):
            continue
        for key, value in part.items():
            if key in _TEXT_NAMES_FILE and _holds_text(value):
                raise _leads_out()
            if _is_file_key(key, value) and not is_covered:
                raise _leads_out()
            if key.endswith("_files") and not _are_versions(value):
                raise _leads_out()
        parts += [(value, False) for value in part.values() if isinstance(value, dict | list)]


def _is_file_key(key: str, value: object) -> bool:
    return key.endswith("_file") and value is not None


def _holds_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(each, str) for each in value))


def _are_versions(value: object) -> bool:
    """Whether a value is empty, or lists a tokenizer's files for several versions of transformers."""
    names = value if isinstance(value, list) else [value] if value is not None else []
    return all(is_plain_name(name, ".json") for name in names)


def _check_code(content: Mapping[str, Any], name: str) -> None:
    """Raise TaskFailed (base-model) if code is named that is not in the folder, and so not in the fingerprint."""
    classes = content.get("auto_map") or {}
    for value in classes.values() if isinstance(classes, dict) else [classes]:
        for each in value if isinstance(value, list) else [value]:
            if each is not None and not (isinstance(each, str) and _OWN_CODE.fullmatch(each)):
                raise unusable(
                    f"{name} of the base model names code outside of its folder (auto_map), which no fingerprint "
                    "covers: save the code with the model"
                )


def _leads_out() -> TaskFailed:
    return unusable(
        "the base model's folder cannot be used: a link in it, or a name in one of its files, is not that of a plain "
        "file in this folder. Replace links by copies, and names of folders by plain names"
    )
