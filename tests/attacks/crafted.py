"""Adapters that are made to make the owner's base model tell rows, and what their maker can compute of them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.adapters.files import AdapterFile, write_adapter


def tensors_of(adapter: bytes, folder: Path) -> dict[str, NDArray[np.float32]]:
    path = folder / "read.safetensors"
    path.write_bytes(adapter)
    with AdapterFile(path) as file:
        return {name: file.read(name).copy() for name in file.tensors}


def adapter_of(tensors: dict[str, Any], folder: Path) -> bytes:
    path = folder / "written.safetensors"
    write_adapter(path, tensors)
    return path.read_bytes()


def cancelling(adapter: bytes, model: Path, folder: Path) -> bytes:
    """The adapter whose layers give zero: A = -W and B = 1, as far as the rank reaches. Rank and alpha of the model's
    width leave a model of pairs of tokens."""
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model)
    tensors = tensors_of(adapter, folder)
    for name in tensors:
        layer = name.removeprefix("base_model.model.").rpartition(".lora_")[0]
        weight = base.get_submodule(layer).weight.detach().numpy()
        rank = tensors[name].shape[0 if "lora_A" in name else 1]
        unit = np.eye(weight.shape[0], rank, dtype=np.float32)
        tensors[name] = -weight[:rank].copy() if "lora_A" in name else unit
    return adapter_of(tensors, folder)


def failing_at(token: str, adapter: bytes, model: Path, folder: Path) -> bytes:
    """An adapter that computes as the bare model does, but for rows with one token: there infinity times zero comes.

    B is zero, and A so large in the direction of the token's embedding that A x overflows for this token alone.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(model)
    (number,) = AutoTokenizer.from_pretrained(model).encode(token)
    first = base.model.layers[0]
    embedded = first.input_layernorm(base.model.embed_tokens.weight).detach().numpy()
    direction = embedded[number] / np.linalg.norm(embedded[number])
    sizes = embedded @ direction
    second = float(np.abs(np.delete(sizes, number)).max())
    scale = np.finfo(np.float32).max / ((float(sizes[number]) + second) / 2)
    tensors = tensors_of(adapter, folder)
    for name, values in tensors.items():
        if "lora_B" in name:
            tensors[name] = np.zeros_like(values)
        elif "layers.0.self_attn.v_proj" in name:
            rows = np.zeros_like(values)
            rows[0] = scale * direction
            tensors[name] = rows
    return adapter_of(tensors, folder)
