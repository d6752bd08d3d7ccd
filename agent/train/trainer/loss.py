"""The loss of a causal language model without the work that it does not depend on, and batches for it.

With a vocabulary of 49,000 the head is a fifth of a small model's work, and most positions belong to the prompt. TRL's
fused head scores all of them on a CPU, so it receives only the hidden states of the supervised ones. And the backbone
gets no padding where it can take the rows of a batch end to end (``packing``). The loss is the same.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from agent.train.data.tokens import IGNORED
from agent.train.trainer.head import use_own_head
from agent.train.trainer.layout import lay_out
from agent.train.trainer.packing import CannotShare, joined, joins_rows, shares_beginnings

_BY_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


@contextmanager
def select_hidden(model: Any, chosen: Tensor | tuple[int, Tensor]) -> Iterator[None]:
    """Make the backbone of *model* return n of its hidden states only, (1, n, width), inside the block.

    chosen: an index of the backbone's own input, (batch, tokens): bool of that shape, or a row and n places in it.
    """

    def select(_module: Any, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[chosen].unsqueeze(0)
        return output

    hook = model.base_model.register_forward_hook(select)
    try:
        yield
    finally:
        hook.remove()


def score_only_supervised(model: Any) -> None:
    """Make the fused head of *model* score supervised positions only, when it is called with ``labels``.

    Its outputs by token keep their shape, (batch, tokens − 1), with zeros at all other positions. A model that needs
    its own head gets that.

    Such calls take rows that are padded on the right, by keyword, and raise ValueError for others. A model that joins
    rows gets them without padding. Another gets it without an attention mask: a causal model's tokens never see the
    padding after them. With a mask, padding beyond a sliding window would see nothing at all, of which attention
    kernels in half precision make NaN.
    """
    fused = model.forward

    @functools.wraps(fused)
    def forward(*args: Any, labels: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        if labels is None:
            return fused(*args, **kwargs, **({} if attention_mask is None else {"attention_mask": attention_mask}))
        if attention_mask is not None:
            _check_padding(attention_mask)
        next_labels = labels[:, 1:]  # (batch, tokens − 1)
        supervised = next_labels != IGNORED
        predicts = functional.pad(supervised, (0, 1))  # (batch, tokens)
        targets = next_labels[supervised].unsqueeze(0)  # (1, n)
        if joins_rows(model) and attention_mask is not None and len(labels) > 1:
            call = functools.partial(fused, *args, **kwargs, shift_labels=targets)
            try:
                output = _end_to_end(model, call, attention_mask, predicts, shares=shares_beginnings(model))
            except CannotShare:
                output = _end_to_end(model, call, attention_mask, predicts, shares=False)
        else:
            with select_hidden(model, predicts):
                output = fused(*args, **kwargs, shift_labels=targets)
        for name in _BY_TOKEN:
            values = getattr(output, name)  # (1, n)
            if values is not None:
                setattr(output, name, values.new_zeros(supervised.shape).masked_scatter(supervised, values))
        output.label_mask = supervised
        return output

    model.forward = forward
    use_own_head(model, masked=False)


def _end_to_end(
    model: Any, call: functools.partial[Any], attention_mask: Tensor, predicts: Tensor, *, shares: bool
) -> Any:
    """Call the model with the rows of a batch as one row. Raises CannotShare.

    Args:
        model: the language model.
        call: its forward, with the batch.
        attention_mask: (batch, tokens).
        predicts: the tokens whose hidden states are scored, (batch, tokens) bool.
        shares: whether what several rows begin with stands once.
    """
    input_ids = call.keywords["input_ids"]
    layout = lay_out(input_ids, attention_mask, shares=shares)
    ids, positions = layout.join(input_ids, attention_mask), layout.positions()
    with joined(layout), select_hidden(model, (0, layout.places[predicts])):
        return call(input_ids=ids, position_ids=positions)


def _check_padding(attention_mask: Tensor) -> None:
    """Raise ValueError unless each row is padded on the right alone: elsewhere its tokens would see the padding."""
    real = attention_mask.bool()
    if bool((real[:, 1:] & ~real[:, :-1]).any()) or not bool(real[:, 0].all()):
        message = "rows must be padded on the right"
        raise ValueError(message)


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
