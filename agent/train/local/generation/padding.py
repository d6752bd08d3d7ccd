"""Whether a row of a batch is decoded as it is alone: some models let a row see its padding."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agent.train.base.device import autocast

_N_PADDING, _N_TOKENS = 8, 8
_EXACT = 1e-3
"""The change of logits in float32, relative to the largest one, that is rounding alone."""
_ROUNDED, _RESHAPED = 2e-2, 0.1
"""The same in half precision: of rows in one batch, and of a row in a batch and alone, where other kernels run."""


def sees_padding(model: Any, prompt: Sequence[int], autocast_dtype: torch.dtype | None) -> bool:
    """Whether padding on the left changes the logits of the next token: then each row is to be decoded alone.

    Recurrent models may read their padding, and others count it as positions. The model is tried, for a family's name
    does not tell. That costs about as much as two tokens of a reply.

    Args:
        model: a bare or a PEFT model.
        prompt: at least one token, of which a few are used.
        autocast_dtype: the base's dtype if it is bfloat16 or float16, else None.
    """
    device = next(model.parameters()).device
    tokens = list(prompt[:_N_TOKENS])
    paddings = (tokens[0], 0 if tokens[0] != 0 else 1)
    ids = torch.tensor([[padding] * _N_PADDING + tokens for padding in paddings], device=device)  # (2, T)
    mask = torch.ones_like(ids)
    mask[:, :_N_PADDING] = 0
    bare = ids[:1, _N_PADDING:]
    with torch.inference_mode(), autocast(device, autocast_dtype):
        one, other = _next_logits(model, ids, mask)
        alone = _next_logits(model, bare, torch.ones_like(bare))[0]
    rounded, reshaped = (_EXACT, _EXACT) if autocast_dtype is None else (_ROUNDED, _RESHAPED)
    return _change(one, other) > rounded or _change(one, alone) > reshaped


def _next_logits(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The logits after each row, (rows, vocabulary) float32. ids, mask: (rows, T)."""
    how = {"max_new_tokens": 1, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    logits: Tensor = model.generate(input_ids=ids, attention_mask=mask, **how).logits[0]
    return logits.float()


def _change(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-30))
