"""Finds the two factors of a LoRA adapter by tensor name.

Hu et al. 2021 (arXiv 2106.09685): a linear layer's weight W (out, in) becomes W + (α/r) B A, with A (r, in) and
B (out, r).
"""

import re
from collections.abc import Iterable

from shared.adapters import Contract
from shared.campaign import LoraSection

_TENSOR = re.compile(r"(?P<module>.+)\.lora_(?:(?P<factor>[AB])\.weight|embedding_[AB])")
"""The names that PEFT gives: a linear layer's factors are modules, an embedding's are parameters."""


def module_of(tensor: str) -> str | None:
    """The adapted module of a tensor, a linear layer or an embedding; None for other tensors."""
    match = _TENSOR.fullmatch(tensor)
    return match["module"] if match else None


def factor_of(tensor: str) -> tuple[str, str] | None:
    """Return a tensor's linear layer and its factor, ``"A"`` or ``"B"``; None for other tensors.

    An embedding's factors are not among them: PEFT initialises A to zero there, so freezing A would leave nothing to
    train.
    """
    match = _TENSOR.fullmatch(tensor)
    return (match["module"], match["factor"]) if match and match["factor"] else None


def factors(tensors: Iterable[str]) -> list[tuple[str, str]]:
    """The tensor names (A, B) of every module that has both, sorted by module."""
    by_module: dict[str, dict[str, str]] = {}
    for tensor in tensors:
        if found := factor_of(tensor):
            by_module.setdefault(found[0], {})[found[1]] = tensor
    return [(pair["A"], pair["B"]) for _, pair in sorted(by_module.items()) if len(pair) == 2]


def is_trained(tensor: str, lora: LoraSection) -> bool:
    """Whether clients train a tensor of the adapter. With ``freeze_a`` they train the B factors only."""
    found = factor_of(tensor)
    return not (lora.freeze_a and found is not None and found[1] == "A")


def trained(adapter: Contract, lora: LoraSection) -> Contract:
    """The contract of an update: the adapter's trained tensors."""
    return Contract.of({name: spec for name, spec in adapter.tensors.items() if is_trained(name, lora)})
