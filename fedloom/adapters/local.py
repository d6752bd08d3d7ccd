"""Reads an adapter folder to merge it or chat with it: one from ``adapter pull``, or any plain LoRA adapter of PEFT."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedloom.adapters.folder import CONFIG_FILE, WEIGHTS_FILE
from fedloom.adapters.lineage import LINEAGE_FILE, Lineage
from fedloom.errors import BadAdapterFolder
from shared.campaign.sections import FROM_COORDINATOR
from shared.campaign.spec import BaseSection, LoraSection, Template
from shared.digest import sha256_file
from shared.wire.tasks.results import Fingerprint

_READ = frozenset({"base_model_name_or_path", "lora_alpha", "peft_type", "r", "revision", "target_modules"})
_NO_EFFECT = frozenset(
    {
        "auto_mapping",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "fan_in_fan_out",
        "inference_mode",
        "layers_pattern",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "runtime_config",
        "task_type",
    }
)
"""Settings of PEFT that change nothing about a trained adapter by themselves."""
_PLAIN: dict[str, object] = {"bias": "none"}
"""Values with which PEFT computes plain LoRA, W + (alpha / rank) B A, where that is not the empty value."""
_BASE_UNCHANGED = (None, True, False, "gaussian", "orthogonal", "eva")
"""Values of ``init_lora_weights`` that leave the base model as published. Others, such as ``pissa``, take a part of the
base's weights into the adapter, so W here is not the W that the adapter was trained on."""


@dataclass(frozen=True)
class LocalAdapter:
    """A LoRA adapter on this machine. sha256: of its weights. lineage: None if Fedloom did not write the folder."""

    folder: Path
    weights: Path
    sha256: str
    base: BaseSection
    lora: LoraSection
    lineage: Lineage | None

    @property
    def name(self) -> str:
        """Name for messages."""
        if self.lineage is None:
            return self.folder.name
        return f"{self.lineage.campaign_name} #{self.lineage.adapter_number}"

    @property
    def template(self) -> Template | None:
        """The template that its prompts were written with. None if unknown."""
        return self.lineage.spec.data.template if self.lineage is not None else None

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Fingerprint of the base model that it was trained on. None if unknown."""
        return self.lineage.fingerprint if self.lineage is not None else None


def read_adapter_folder(folder: Path) -> LocalAdapter:
    """Read the adapter in *folder*. Raises errors.BadAdapterFolder and OSError."""
    folder = folder.resolve()
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise BadAdapterFolder(folder, f"{WEIGHTS_FILE} is missing; `fedloom adapter pull` writes such a folder")
    sha256 = sha256_file(weights)
    if (folder / LINEAGE_FILE).is_file():
        lineage = _lineage(folder)
        if lineage.sha256 != sha256:
            raise BadAdapterFolder(
                folder, f"{WEIGHTS_FILE} does not match the digest in {LINEAGE_FILE}; pull the adapter again"
            )
        return LocalAdapter(folder, weights, sha256, lineage.spec.base, lineage.spec.lora, lineage)
    config = _json(folder, CONFIG_FILE)
    try:
        return LocalAdapter(folder, weights, sha256, _base(config), _lora(config), lineage=None)
    except (KeyError, ValueError) as error:
        raise BadAdapterFolder(folder, f"{CONFIG_FILE} cannot be used: {_reason(error)}") from error


def _lineage(folder: Path) -> Lineage:
    content = _json(folder, LINEAGE_FILE)
    if content.get("format") != 1:
        reason = f"{LINEAGE_FILE} has format {content.get('format')}, this Fedloom reads 1; upgrade it"
        raise BadAdapterFolder(folder, reason)
    try:
        return Lineage.model_validate(content, context=FROM_COORDINATOR, extra="ignore")
    except ValidationError as error:
        raise BadAdapterFolder(folder, f"{LINEAGE_FILE} cannot be used: {_reason(error)}") from error


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_bytes())
    except FileNotFoundError as error:
        raise BadAdapterFolder(folder, f"{name} is missing") from error
    except ValueError as error:
        raise BadAdapterFolder(folder, f"{name} is not JSON") from error
    if not isinstance(content, dict):
        raise BadAdapterFolder(folder, f"{name} is not a JSON object")
    return content


def _base(config: dict[str, Any]) -> BaseSection:
    return BaseSection(model=config["base_model_name_or_path"], revision=config.get("revision"))


def _lora(config: dict[str, Any]) -> LoraSection:
    """The LoRA settings in a configuration of PEFT. Raises KeyError and ValueError if it is not plain LoRA."""
    if config.get("peft_type") != "LORA":
        raise ValueError(f"peft_type {config.get('peft_type')} is not LORA")
    if (start := config.get("init_lora_weights")) not in _BASE_UNCHANGED:
        raise ValueError(
            f"init_lora_weights is {start}: that start changes the base's weights, so the adapter does not fit the "
            "published ones; convert it by PEFT's save_pretrained with path_initial_model_for_weight_conversion"
        )
    known = {"init_lora_weights", *_READ, *_NO_EFFECT}
    unsupported = [key for key, value in config.items() if key not in known and value and value != _PLAIN.get(key)]
    if unsupported:
        raise ValueError(f"{', '.join(unsupported)}: only plain LoRA is supported")
    return LoraSection(rank=config["r"], alpha=config["lora_alpha"], target_modules=config["target_modules"])


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors(include_url=False)
        )
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
