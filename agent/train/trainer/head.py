"""The head of a language model: TRL's fused one, or the model's own where the fused one computes something else.

TRL's fused head multiplies the last hidden states by the output embeddings, and knows the logit scales and caps of some
families. It does not know the rest: a head with a layer of its own, a scale under another name. Which head a base needs
is measured (``agent.train.suitability``), and marked on the model. The own head scores all positions of a batch, so it
takes more memory and time.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import FusedCausalLMOutput

from agent.train.data.tokens import IGNORED

_MARK = "scores_by_own_head"
_IS_OWN_HEAD = "is_own_head"


def needs_own_head(model: Any) -> bool:
    """Whether the language model is marked."""
    return bool(getattr(model, _MARK, False))


def mark_own_head(model: Any, *, needed: bool) -> None:
    """Mark the language model."""
    setattr(model, _MARK, needed)


def use_own_head(model: Any, *, masked: bool = True) -> None:
    """Let calls of a marked *model* with ``fused_lm_head=True`` compute their outputs from the model's own logits.

    Called after TRL has added its fused head; without a mark, or with such a head on it, it does nothing. ``Base``
    removes both when the block ends in which it lends the model.

    masked: whether the attention mask reaches the model, see ``score_only_supervised``.
    """
    if not needs_own_head(model) or getattr(model.forward, _IS_OWN_HEAD, False):
        return
    fused = model.forward

    @functools.wraps(fused)
    def forward(
        *args: Any,
        fused_lm_head: bool = False,
        labels: Tensor | None = None,
        shift_labels: Tensor | None = None,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        if not fused_lm_head:
            given = {"labels": labels, "shift_labels": shift_labels, "num_items_in_batch": num_items_in_batch}
            return fused(*args, **kwargs, **{key: value for key, value in given.items() if value is not None})
        if not masked:
            kwargs.pop("attention_mask", None)
        logits = fused(*args, **(kwargs | {"use_cache": False})).logits  # (batch, tokens, vocabulary)
        if shift_labels is None:
            assert labels is not None
            logits, shift_labels = logits[:, :-1], labels[:, 1:]
        return _output(logits, shift_labels, num_items_in_batch)

    setattr(forward, _IS_OWN_HEAD, True)
    model.forward = forward


def _output(logits: Tensor, targets: Tensor, num_items_in_batch: Any) -> FusedCausalLMOutput:
    """What the fused head returns. logits: (batch, tokens, vocabulary). targets: (batch, tokens), or IGNORED."""
    mask = targets != IGNORED
    chosen, targets = logits[mask].float(), targets[mask]  # (n, vocabulary), (n,)
    log_p = chosen.log_softmax(dim=-1)
    log_probs = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)

    def by_token(values: Tensor) -> Tensor:
        return values.new_zeros(mask.shape).masked_scatter(mask, values)

    with torch.no_grad():
        entropy = -(log_p.exp() * log_p).sum(dim=-1)
        mean_logits, is_top1 = chosen.mean(dim=-1), chosen.argmax(dim=-1) == targets
    total = mask.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return FusedCausalLMOutput(
        loss=-log_probs.sum() / total,
        log_probs=by_token(log_probs),
        entropy=by_token(entropy),
        mean_logits=by_token(mean_logits),
        is_top1=by_token(is_top1),
        label_mask=mask,
    )
