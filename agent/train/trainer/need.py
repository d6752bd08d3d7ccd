"""The memory that a training needs beside the loaded base, and the micro-batch that fits into what is free.

What a backward pass needs of each token is counted once for a base (``saved_bytes``), so the need is known before a
training starts. Where not even one row fits, the layers keep only their inputs and compute the rest again in the
backward pass (Chen et al. 2016): a third more work for a fraction of the memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_HEAD_CHUNK, _HEAD_TOKENS, _HEAD_COPIES = 32_768, 4096, 4
"""The logits that TRL's fused head computes at once of a scored token, in float32; the tokens; copies of them."""
CPU_TOKENS = 512
"""Tokens at once beyond which a CPU gets no faster."""
_SHARE = 0.8
"""Of the free memory: the rest is for temporary tensors and for what the allocator cannot join."""


@dataclass(frozen=True)
class Need:
    """Bytes that a training takes for its activations.

    Attributes:
        per_token: kept of each token for the backward pass.
        recomputed: the same, if layers keep only their inputs.
        per_scored: for the loss of each supervised token.
    """

    per_token: int
    recomputed: int
    per_scored: int

    @classmethod
    def of(cls, language_model: Any, per_token: int) -> "Need":
        """The need of a language model, of which *per_token* bytes were counted."""
        config = language_model.config.get_text_config()
        layers, width = (getattr(config, name, None) for name in ("num_hidden_layers", "hidden_size"))
        recomputed = per_token
        if layers and width:
            recomputed = min(per_token, layers * width * language_model.dtype.itemsize + 2 * per_token // layers)
        return cls(per_token, recomputed, min(config.vocab_size, _HEAD_CHUNK) * 4 * _HEAD_COPIES)

    def bytes(self, n_tokens: int, n_scored: int, *, recomputes: bool) -> int:
        """The bytes that so many tokens at once take, of which some are scored."""
        kept = self.recomputed if recomputes else self.per_token
        return n_tokens * kept + min(n_scored, _HEAD_TOKENS) * self.per_scored


@dataclass(frozen=True)
class Choice:
    """How a training goes through its rows.

    Attributes:
        micro_batch: rows, or pairs, at once.
        recomputes: whether layers keep only their inputs.
        bytes: the estimated need.
        fits: whether that is no more than what is free.
    """

    micro_batch: int
    recomputes: bool
    bytes: int
    fits: bool

    def __str__(self) -> str:
        again = ", layers compute again in the backward pass" if self.recomputes else ""
        return f"micro-batch of {self.micro_batch}{again}: about {self.bytes / 1e9:.2f} GB beside the base model"


def choose(
    need: Need,
    n_tokens: NDArray[np.int64],
    n_scored: NDArray[np.int64],
    *,
    batch_size: int,
    most: int,
    free: int | None,
    on_cpu: bool,
    padded: bool = False,
    recomputes: bool = False,
    can_recompute: bool = True,
) -> Choice:
    """Choose the largest micro-batch that fits, and layers that keep only their inputs where not even one row does.

    Args:
        need: the base's.
        n_tokens: of the round's k rows in training order, with all of their completions, (k,).
        n_scored: supervised tokens of them, (k,).
        batch_size: rows of an optimizer step; it divides k.
        most: the most rows at once.
        free: bytes; None if unknown, and then all fits.
        on_cpu: whether the base is on a CPU, where many tokens at once bring nothing.
        padded: whether the rows of a micro-batch are padded to the longest.
        recomputes: whether layers are to keep only their inputs in any case.
        can_recompute: whether they can.
    """
    limit = np.inf if free is None else _SHARE * free
    divisors = [size for size in range(min(batch_size, max(most, 1)), 0, -1) if batch_size % size == 0]
    for way in (recomputes, True) if can_recompute else (False,):
        for size in divisors:
            tokens, scored = (each.reshape(-1, size).sum(axis=1) for each in (n_tokens, n_scored))  # (k / size,)
            if padded:
                tokens = n_tokens.reshape(-1, size).max(axis=1) * size
            if size > 2 and on_cpu and tokens.max() > CPU_TOKENS:
                continue
            # of all micro-batches the one that needs most
            largest = max(need.bytes(int(t), int(s), recomputes=way) for t, s in zip(tokens, scored, strict=True))
            if largest <= limit:
                return Choice(size, way, largest, fits=True)
    return Choice(1, way, largest, fits=False)


@contextmanager
def saved_bytes(model: Any) -> Iterator[list[int]]:
    """Count the bytes that autograd keeps of the block for a backward pass. Yields a list that receives their number.

    The model's own weights do not count, and what is kept several times counts once.
    """
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    found: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        yield found
    found.append(sum(kept.values()))
