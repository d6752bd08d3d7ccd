"""The loss of a causal language model at its supervised positions only, and batches for it.

With a vocabulary of 49,000 the head is a fifth of a small model's work, and most positions are prompt. TRL's fused head
scores all of them on a CPU; so it is handed the hidden states of the supervised ones alone. The loss is the same.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from agent.train.data.tokens import IGNORED


@contextmanager
def only_supervised(base: Any, labels: Tensor) -> Iterator[Tensor]:
    """While the block runs, the backbone of *base* returns only hidden states that predict a supervised token.

    labels: (batch, tokens), IGNORED where the loss is not taken. Yields the targets, (1, n): what to pass to the fused
    head as ``shift_labels``.
    """
    following = labels[:, 1:]
    predicts = torch.zeros_like(labels, dtype=torch.bool)
    predicts[:, :-1] = following != IGNORED

    def select(_module: Any, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[predicts].unsqueeze(0)
        return output

    hook = base.base_model.register_forward_hook(select)
    try:
        yield following[following != IGNORED].unsqueeze(0)
    finally:
        hook.remove()


def score_supervised_alone(base: Any) -> None:
    """Have the fused head of *base* score supervised positions alone, where it is called with ``labels``.

    What it returns by token keeps its shape, (batch, tokens − 1), with zeros elsewhere, as before.
    """
    fused = base.forward

    @functools.wraps(fused)
    def forward(*args: Any, labels: Tensor, **kwargs: Any) -> Any:
        with only_supervised(base, labels) as targets:
            output = fused(*args, shift_labels=targets, **kwargs)
        supervised = labels[:, 1:] != IGNORED
        for name in ("log_probs", "entropy", "mean_logits", "is_top1"):
            found = output[name]
            output[name] = found.new_zeros(supervised.shape).masked_scatter(supervised, found)
        return output

    base.forward = forward


def collate(examples: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Pad rows on the right into ``input_ids``, ``attention_mask`` and ``labels``, each (batch, longest row)."""
    longest = max(len(example["input_ids"]) for example in examples)
    input_ids = torch.zeros((len(examples), longest), dtype=torch.long)  # any token will do: padding is not attended to
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORED)
    for row, example in enumerate(examples):
        size = len(example["input_ids"])
        input_ids[row, :size] = torch.tensor(example["input_ids"])
        attention_mask[row, :size] = 1
        labels[row, :size] = torch.tensor(example["labels"])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def collate_pairs(examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Pad n pairs into what TRL's DPO takes: ``input_ids``, ``attention_mask`` and ``completion_mask``, each
    (2n, longest side), the chosen sides first; and the reference's log-probabilities, (n,) each, where they are
    known."""
    completions = [example[side] for side in ("chosen", "rejected") for example in examples]
    batch = collate(completions)
    batch["completion_mask"] = (batch.pop("labels") != IGNORED).long()
    for side in ("chosen", "rejected"):
        if (name := f"ref_{side}_logps") in examples[0]:
            batch[name] = torch.tensor([example[name] for example in examples], dtype=torch.float32)
    return batch
