"""Finds the two factors of a LoRA adapter by tensor name, and cuts them to a smaller rank.

Hu et al. 2021 (arXiv 2106.09685): a linear layer's weight W (out, in) becomes W + (α/r) B A, with A (r, in) and
B (out, r). The product is a sum of r components, each a column of B times a row of A. A client of rank r_k < r trains
the first r_k of them, at the same scale α/r (``LoraSection.at_rank``).
"""

import re
from collections.abc import Iterable

from shared.adapters.files import AdapterError, Array, Contract, TensorSpec
from shared.campaign.spec import LoraSection

_TENSOR = re.compile(r"(?P<module>.+)\.lora_(?:(?P<factor>[AB])\.weight|embedding_(?P<of_embedding>[AB]))")
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


def shape_at_rank(tensor: str, shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """The shape of a factor of this shape at another rank: A (rank, in), B (out, rank); an embedding's factors too.

    Raises AdapterError if the tensor is not a factor, or not a matrix: a grouped convolution's B has components that
    cannot be cut.
    """
    match = _TENSOR.fullmatch(tensor)
    if match is None:
        raise AdapterError("not a LoRA factor, so it has no rank", tensor)
    if len(shape) != 2:
        raise AdapterError(f"shape {list(shape)} is not a matrix, so it cannot have another rank", tensor)
    return (rank, shape[1]) if "A" in (match["factor"], match["of_embedding"]) else (shape[0], rank)


def at_rank(adapter: Contract, rank: int) -> Contract:
    """The contract of the same adapter at another rank. Raises AdapterError, see ``shape_at_rank``."""
    tensors = adapter.tensors.items()
    return Contract.of({name: TensorSpec(each.dtype, shape_at_rank(name, each.shape, rank)) for name, each in tensors})


def at_rank_of(adapter: Contract, n_values: int) -> Contract:
    """The contract of the same adapter at the rank at which it has so many numbers. Raises AdapterError if there is no
    such rank, and as ``shape_at_rank``."""
    rank, rest = divmod(n_values, at_rank(adapter, 1).n_values)
    if rest or not rank:
        raise AdapterError(f"{n_values} numbers, which the adapter has at no rank")
    return at_rank(adapter, rank)


def cut(tensor: str, values: Array, rank: int) -> Array:
    """The first components of a factor, A[:rank] or B[:, :rank], as a view.

    Raises AdapterError if the factor has fewer components, and as ``shape_at_rank``.
    """
    shape = shape_at_rank(tensor, values.shape, rank)
    if any(wanted > present for wanted, present in zip(shape, values.shape, strict=True)):
        raise AdapterError(f"shape {list(values.shape)} has fewer than {rank} components", tensor)
    return values[: shape[0], : shape[1]]


def is_trained(tensor: str, lora: LoraSection) -> bool:
    """Whether clients train a tensor of the adapter. With ``freeze_a`` they train the B factors only."""
    found = factor_of(tensor)
    return not (lora.freeze_a and found is not None and found[1] == "A")


def trained(adapter: Contract, lora: LoraSection) -> Contract:
    """The contract of an update: the adapter's trained tensors."""
    return Contract.of({name: spec for name, spec in adapter.tensors.items() if is_trained(name, lora)})
