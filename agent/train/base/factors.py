"""The factors that an adapter must have, from the base model alone, whatever library attaches it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_PREFIX = "base_model.model."
"""Before a module's name in the names of adapter files."""


def factors_of(model: Any, targets: Iterable[str], rank: int) -> dict[str, tuple[int, int]]:
    """The shapes of the adapter's tensors by their names in adapter files.

    Of a linear layer (in → out), A is (rank, in) and B is (out, rank).

    Args:
        model: the bare model.
        targets: its adapted modules.
        rank: the adapter's.
    """
    shapes = {}
    for target in targets:
        n_in, n_out = _sides(model.get_submodule(target))
        shapes[f"{_PREFIX}{target}.lora_A.weight"] = (rank, n_in)
        shapes[f"{_PREFIX}{target}.lora_B.weight"] = (n_out, rank)
    return shapes


def difference(parameters: Mapping[str, Tensor], expected: Mapping[str, tuple[int, int]]) -> str | None:
    """What of an adapter's parameters is not as *expected*, in words; None if nothing."""
    if missing := sorted(expected.keys() - parameters.keys()):
        return f"{len(missing)} of its tensors are missing, {missing[0]} among them"
    if further := sorted(parameters.keys() - expected.keys()):
        return f"it trains {len(further)} tensors that belong to no adapter of this campaign, {further[0]} among them"
    for name, parameter in parameters.items():
        if tuple(parameter.shape) != expected[name]:
            return f"{name} has the shape {list(parameter.shape)}, not {list(expected[name])}"
        if parameter.dtype != torch.float32:
            dtype = str(parameter.dtype).removeprefix("torch.")
            return f"{name} is {dtype}, not float32: small steps would vanish in its rounding"
    return None


def _sides(module: Any) -> tuple[int, int]:
    """The numbers of inputs and outputs of a linear module."""
    if hasattr(module, "in_features"):
        return module.in_features, module.out_features
    n_in, n_out = module.weight.shape  # transformers' Conv1D holds its weight transposed
    return n_in, n_out
