"""Writes an adapter folder that ``PeftModel.from_pretrained`` and vLLM load, with a model card and its lineage."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fedloom.adapters.atomic_folder import atomic_folder
from fedloom.adapters.facts import AdapterFacts
from fedloom.adapters.lineage import LINEAGE_FILE, Lineage
from fedloom.adapters.model_card import model_card
from fedloom.errors import BadAdapterFolder
from shared.adapters.files import AdapterError, AdapterFile
from shared.adapters.lora import module_of
from shared.campaign.spec import CampaignSpec

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
CARD_FILE = "README.md"
_PEFT_PREFIX = "base_model.model."


def write_adapter_folder(facts: AdapterFacts, download: Callable[[Path], None], folder: Path, *, force: bool) -> None:
    """Download an adapter and write its folder, complete or not at all.

    Raises errors.FolderNotEmpty, errors.BadAdapterFolder if the file is no adapter, OSError, and what *download*
    raises.

    Args:
        facts: what is known of the adapter.
        download: writes its weights to a file, with their digest checked.
        folder: where to write.
        force: replace an existing folder of weights.
    """
    with atomic_folder(folder, force=force) as draft:
        weights = draft / WEIGHTS_FILE
        download(weights)
        try:
            with AdapterFile(weights) as file:
                config = peft_config(facts.spec, file.tensors)
        except AdapterError as error:
            raise BadAdapterFolder(folder, f"what was downloaded is no adapter: {error}") from error
        (draft / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (draft / CARD_FILE).write_text(model_card(facts), encoding="utf-8")
        lineage = Lineage.of(facts)
        (draft / LINEAGE_FILE).write_text(lineage.model_dump_json(indent=2) + "\n", encoding="utf-8")


def peft_config(spec: CampaignSpec, tensor_names: Iterable[str]) -> dict[str, Any]:
    """The ``adapter_config.json`` of a campaign's adapter."""
    alpha = spec.lora.alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": spec.base.model,
        "revision": spec.base.revision,
        "r": spec.lora.rank,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,  # vLLM expects an integer
        "lora_dropout": spec.lora.dropout,
        "target_modules": target_modules(spec, tensor_names),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }


def target_modules(spec: CampaignSpec, tensor_names: Iterable[str]) -> list[str]:
    """The names of the adapted modules: the campaign's, or for ``all-linear`` those in the tensor names.

    ``all-linear`` itself is not written: another version of PEFT may match other layers, and vLLM does not support it.
    Where the layers are those of a part of the model, names are written in full: the layers of another part, such as a
    vision tower, may have the same short names.
    """
    found = (module_of(name) for name in tensor_names)
    modules = {module.removeprefix(_PEFT_PREFIX) for module in found if module is not None}
    if any(map(_is_of_a_part, modules)):
        return sorted(modules)
    if spec.lora.target_modules != "all-linear":
        return sorted(set(spec.lora.target_modules))
    return sorted({_short_name(module) for module in modules})


def _is_of_a_part(module: str) -> bool:
    """Whether a numbered layer lies deeper than in ``model.layers.0``: as in ``model.language_model.layers.0``."""
    parts = module.split(".")
    first_number = next((place for place, part in enumerate(parts) if part.isdecimal()), 0)
    return first_number > 2


def _short_name(module: str) -> str:
    """The last part of a module's path. If that is an index in a list, the part before it too."""
    parts = module.split(".")
    start = len(parts) - 1
    while start > 0 and parts[start].isdecimal():
        start -= 1
    return ".".join(parts[start:])
