"""Rows end to end in place of padding: a batch becomes one row, whose positions restart where another row begins.

The backbone is called with the tokens of all rows as one of them, (1, S), and with their positions. Which tokens see
one another is then the attention's matter. FlashAttention finds the borders in the positions. Torch's SDPA would need
a mask of all tokens by all tokens, most of it empty, so it is called for each segment of the layout apart, with the
keys and values of the segments that its rows begin with: as much work as without padding, and the other layers see all
tokens at once.

Whether a model computes the same with joined rows, and with shared beginnings, is measured
(``agent.train.suitability``), and marked on it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from agent.train.trainer.layout import Layout

_JOINS, _SHARES, _DRAWS = "joins_rows", "shares_beginnings", "draws_in_training"
_SDPA = "sdpa"
_ATTEND = {"full_attention", "sliding_attention"}
"""Types of layers in which a token takes only from those that it attends to, by their distance alone."""
_layout: ContextVar[Layout | None] = ContextVar("layout", default=None)
"""The layout of the rows that the model has joined now."""


class CannotShare(Exception):
    """The model needs each row by itself: its tokens do not see all of the row before them, or it draws at random."""


def joins_rows(model: Any) -> bool:
    """Whether the language model is marked to take rows end to end."""
    return bool(getattr(model, _JOINS, False))


def shares_beginnings(model: Any) -> bool:
    """Whether the language model is marked to take the beginnings that rows share once.

    Not in training if it draws at random there: each row has to have its own dropout.
    """
    return bool(getattr(model, _SHARES, False)) and not (model.training and getattr(model, _DRAWS, True))


def mark_joining(model: Any, *, joins: bool, shares: bool, draws: bool) -> None:
    """Mark the language model."""
    for name, value in ((_JOINS, joins), (_SHARES, shares), (_DRAWS, draws)):
        setattr(model, name, value)


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


def may_share(model: Any) -> bool:
    """Whether the language model's attention is the one that knows of segments."""
    return bool(model.config.get_text_config()._attn_implementation == _SDPA)


@contextmanager
def joined(layout: Layout) -> Iterator[None]:
    """Have the backbone take the rows of a batch as one, in the block."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def current_layout() -> Layout | None:
    """The layout of the rows that the backbone takes now; None outside of ``joined``."""
    return _layout.get()


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Torch's SDPA as transformers calls it, for each segment of the joined rows apart.

    query, key, value: (batch, heads, tokens, width). attention_mask: (…, tokens, tokens), of which only what a row's
    tokens see of each other is used. Returns (batch, tokens, heads, width).
    """
    layout = _layout.get()
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    end = layout.segments[-1].end
    if end != query.shape[2] or (attention_mask is not None and attention_mask.shape[-2:] != (end, end)):
        message = f"{end} tokens of joined rows meet attention over {query.shape[2]}"
        raise RuntimeError(message)
    if layout.is_tree and (attention_mask is not None or kwargs.get("dropout")):
        raise CannotShare
    queries, keys, values = (each.split(layout.sizes, dim=2) for each in (query, key, value))  # its gradient is one cat
    outputs = []
    for number, segment in enumerate(layout.segments):
        seen, mask = (*segment.before, number), None
        if segment.before:
            mask = layout.mask(number, query)
        elif attention_mask is not None:
            mask = attention_mask[..., segment.begin : segment.end, segment.begin : segment.end]
        key, value = (_together([each[n] for n in seen]) for each in (keys, values))
        outputs.append(sdpa_attention_forward(module, queries[number], key, value, mask, **kwargs)[0])
    return torch.cat(outputs, dim=1), None


def _together(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), dim=2)


def _mask(*args: Any, local_size: int | None = None, **kwargs: Any) -> Tensor | None:
    """The mask that SDPA needs: none for joined rows, unless one is longer than the window that a token sees."""
    layout = _layout.get()
    if layout is not None:
        is_plain = not kwargs.get("use_vmap")  # no further rule of who sees whom
        if is_plain and (local_size is None or layout.longest <= local_size):
            return None
        if layout.is_tree:
            raise CannotShare
    mask: Tensor | None = sdpa_mask(*args, local_size=local_size, **kwargs)
    return mask


AttentionInterface.register(_SDPA, _attention)
AttentionMaskInterface.register(_SDPA, _mask)
