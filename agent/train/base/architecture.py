"""Refuses what is not a plain decoder-only language model, by its configuration alone: before any weights are read."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.models.auto import modeling_auto

from agent.train.base.refusals import untrainable, unusable

_CAUSAL = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
_MULTIMODAL = (
    modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES | modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
)
_MASKED = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
_QUANTIZATION_KEYS = ("quantization_config", "compression_config")
_WANTED = "Fedloom trains decoder-only language models"


def check_architecture(folder: Path, *, remote_code: bool) -> None:
    """Check the configuration in *folder*. Raises TaskFailed (base-model).

    remote_code: whether code that comes with the model may run.
    """
    raw = _raw(folder)
    if any(part.get(key) for part in (raw, _part(raw, "text_config")) for key in _QUANTIZATION_KEYS):
        message = (
            "the base model's weight files are quantised already, and machines would compute with them differently: "
            "name the model that they were made from, and set base.quantization if training shall quantise it"
        )
        raise unusable(message)
    own_code = "AutoModelForCausalLM" in _part(raw, "auto_map")
    model_type = raw.get("model_type")
    if not isinstance(model_type, str):
        raise untrainable("its configuration names no architecture (model_type in config.json)")
    if raw.get("is_encoder_decoder"):
        raise untrainable(f"an encoder-decoder model ({model_type}); {_WANTED}")
    if own_code and remote_code:
        return
    if own_code and model_type not in _CAUSAL:
        message = (
            f"its architecture ({model_type}) comes as code with the model, which may not run here; policy.remote_code "
            "in agent.toml allows it in training"
        )
        raise untrainable(message)
    config = _config(folder)
    if config.is_encoder_decoder:  # the library's default for this architecture
        raise untrainable(f"an encoder-decoder model ({model_type}); {_WANTED}")
    if model_type in _CAUSAL:
        return
    if model_type in _MULTIMODAL:
        message = (
            f"a multimodal model ({model_type}) that transformers does not load as a language model; use a model of "
            "text alone"
        )
        raise untrainable(message)
    what = "an encoder" if model_type in _MASKED else "not a language model that transformers can train"
    raise untrainable(f"{what} ({model_type}); {_WANTED}")


def _raw(folder: Path) -> dict[str, Any]:
    try:
        raw = json.loads((folder / "config.json").read_bytes())
    except (ValueError, RecursionError) as error:
        raise unusable("config.json is not a JSON object") from error
    if not isinstance(raw, dict):
        raise unusable("config.json is not a JSON object")
    return raw


def _part(raw: dict[str, Any], name: str) -> dict[str, Any]:
    part = raw.get(name)
    return part if isinstance(part, dict) else {}


def _config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        message = (
            f"the installed transformers cannot read its configuration ({type(error).__name__}); a newer release may "
            "know this architecture"
        )
        raise untrainable(message) from error
