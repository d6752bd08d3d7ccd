"""Rows end to end in place of padding: a batch becomes one row, whose positions restart where another row begins.

The backbone is called with the tokens of all rows as one of them, (1, Σ T), and ``position_ids`` that restart. Which
tokens see one another is then the attention's matter. FlashAttention finds the borders in the positions. Torch's SDPA
would need a mask of all tokens by all tokens, most of it empty, so it is called for each row apart, whatever mask the
model has made: as much work as without padding, and the other layers see all tokens at once.

Whether a model computes the same with joined rows is measured (``agent.train.suitability``), and marked on it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_MARK = "joins_rows"
_SDPA = "sdpa"
_ATTEND = {"full_attention", "sliding_attention"}
"""Types of layers in which a token takes only from those that it attends to, by their distance alone."""
_lengths: ContextVar[tuple[int, ...] | None] = ContextVar("lengths", default=None)
"""The lengths of the rows that the model has joined now, in tokens."""


def joins_rows(model: Any) -> bool:
    """Whether the language model is marked."""
    return bool(getattr(model, _MARK, False))


def mark_joining(model: Any, *, joins: bool) -> None:
    """Mark the language model."""
    setattr(model, _MARK, joins)


def why_not(model: Any) -> str | None:
    """Why the language model cannot join rows, as far as its code says; None if that has to be measured."""
    config = model.config.get_text_config()
    others = {*(getattr(config, "layer_types", None) or ())} - _ATTEND
    if others or getattr(model, "_is_stateful", False):
        return f"it carries a state from token to token, or sees them in parts{f' ({min(others)})' if others else ''}"
    attention = config._attn_implementation
    if attention != _SDPA and "flash" not in str(attention):
        return f"its attention ({attention}) would look at all pairs of tokens"
    return None


@contextmanager
def joined(attention_mask: Tensor) -> Iterator[Tensor]:
    """Have the backbone take the rows of a batch as one, in the block. Yields their positions, (1, Σ T) int64.

    attention_mask: (batch, tokens), 1 at the T first tokens of each row, which are padded on the right.
    """
    real = attention_mask.bool()
    positions = torch.arange(real.shape[1], device=real.device).expand_as(real)[real].unsqueeze(0)
    token = _lengths.set(tuple(real.sum(dim=1).tolist()))
    try:
        yield positions
    finally:
        _lengths.reset(token)


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Torch's SDPA as transformers calls it, for each of the joined rows apart.

    query, key, value: (batch, heads, tokens, width). attention_mask: (…, tokens, tokens), of which only what a row's
    tokens see of each other is used. Returns (batch, tokens, heads, width).
    """
    lengths = _lengths.get()
    if lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    rows, end = [], 0
    for length in lengths:
        begin, end = end, end + length
        part = (tensor[:, :, begin:end] for tensor in (query, key, value))
        mask = None if attention_mask is None else attention_mask[..., begin:end, begin:end]
        rows.append(sdpa_attention_forward(module, *part, mask, **kwargs)[0])
    if end != query.shape[2] or (attention_mask is not None and attention_mask.shape[-2:] != (end, end)):
        message = f"{end} tokens of joined rows meet attention over {query.shape[2]}"
        raise RuntimeError(message)
    return torch.cat(rows, dim=1), None


def _mask(*args: Any, local_size: int | None = None, **kwargs: Any) -> Tensor | None:
    """The mask that SDPA needs: none for joined rows, unless one is longer than the window that a token sees."""
    lengths = _lengths.get()
    is_plain = not kwargs.get("use_vmap")  # no further rule of who sees whom
    if lengths is not None and is_plain and (local_size is None or max(lengths) <= local_size):
        return None
    mask: Tensor | None = sdpa_mask(*args, local_size=local_size, **kwargs)
    return mask


AttentionInterface.register(_SDPA, _attention)
AttentionMaskInterface.register(_SDPA, _mask)
