"""The loss of a causal language model at its supervised positions only, and batches for it.

With a vocabulary of 49,000 the head is a fifth of a small model's work, and most positions belong to the prompt. TRL's
fused head scores all of them on a CPU, so it receives only the hidden states of the supervised ones. The loss is the
same.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from agent.train.data.tokens import IGNORED
from agent.train.trainer.head import use_own_head

_BY_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


@contextmanager
def select_supervised(model: Any, labels: Tensor) -> Iterator[Tensor]:
    """Make the backbone of *model* return only the n hidden states that predict a supervised token, inside the block.

    labels: (batch, tokens) int64, IGNORED where the loss is not taken. Yields the targets, (1, n) int64, to be passed
    to the fused head as ``shift_labels``.
    """
    next_labels = labels[:, 1:]  # (batch, tokens − 1)
    predicts = torch.zeros_like(labels, dtype=torch.bool)  # (batch, tokens)
    predicts[:, :-1] = next_labels != IGNORED

    def select(_module: Any, _inputs: Any, output: Any) -> Any:
        # (batch, tokens, width) → (1, n, width)
        output.last_hidden_state = output.last_hidden_state[predicts].unsqueeze(0)
        return output

    hook = model.base_model.register_forward_hook(select)
    try:
        yield next_labels[next_labels != IGNORED].unsqueeze(0)
    finally:
        hook.remove()


def score_only_supervised(model: Any) -> None:
    """Make the fused head of *model* score supervised positions only, when it is called with ``labels``.

    Its outputs by token keep their shape, (batch, tokens − 1), with zeros at all other positions. A model that needs
    its own head gets that.

    Such calls take rows that are padded on the right, and no attention mask reaches the model: a causal model's tokens
    never see the padding after them. With a mask, padding beyond a sliding window would see nothing at all, of which
    attention kernels in half precision make NaN.
    """
    fused = model.forward

    @functools.wraps(fused)
    def forward(*args: Any, labels: Tensor | None = None, **kwargs: Any) -> Any:
        if labels is None:
            return fused(*args, **kwargs)
        kwargs.pop("attention_mask", None)
        with select_supervised(model, labels) as targets:
            output = fused(*args, shift_labels=targets, **kwargs)
        supervised = labels[:, 1:] != IGNORED  # (batch, tokens − 1)
        for name in _BY_TOKEN:
            values = getattr(output, name)  # (1, n)
            if values is not None:
                setattr(output, name, values.new_zeros(supervised.shape).masked_scatter(supervised, values))
        output.label_mask = supervised
        return output

    model.forward = forward
    use_own_head(model, masked=False)


def collate(examples: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Pad rows on the right into ``input_ids``, ``attention_mask`` and ``labels``, each (batch, longest row) int64."""
    longest = max(len(example["input_ids"]) for example in examples)
    input_ids = torch.zeros((len(examples), longest), dtype=torch.long)  # any token will do: padding is masked
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORED)
    for row, example in enumerate(examples):
        size = len(example["input_ids"])
        input_ids[row, :size] = torch.tensor(example["input_ids"])
        attention_mask[row, :size] = 1
        labels[row, :size] = torch.tensor(example["labels"])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
