"""A client half whose part in each step cannot be missed in what a training ends with."""

import zlib
from typing import Any

import torch
from torch import Tensor

from shared.algorithms import AlgorithmParams, ClientHalf

_TERM = 2.0
"""Far above any gradient, so that clipping to ``SHARE`` bounds the term."""
SHARE = 0.5
"""By how much each part of a strained step changes a value, relative to the learning rate: none hides another one."""


class TrialClient(ClientHalf[AlgorithmParams]):
    """Adds a term to every other gradient, larger than gradients are, as FedProx and FedDyn add one; corrects the
    weights after each step, as SCAFFOLD does."""

    def extra_grad(self, name: str, w: Any, anchor: Any) -> Any:
        return _TERM * torch.relu(_pattern(f"term {name}", w)) + (w - anchor)

    def after_step(self, name: str, w: Any, lr: float) -> None:
        w -= lr * SHARE * _pattern(f"correction {name}", w)


def _pattern(name: str, like: Tensor) -> Tensor:
    """Numbers that depend on the name and the shape alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(like.shape, generator=generator).to(like.device)
