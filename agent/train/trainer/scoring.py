"""Log-probabilities of rows under a model."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trl.trainer.utils import add_fused_lm_head

from agent.train.data.tokens import TokenRows
from agent.train.trainer.loss import collate, select_supervised


def log_probabilities(
    model: Any,
    language_model: Any,
    rows: TokenRows,
    *,
    micro_batch: int,
    autocast_dtype: Any | None,
    report: Callable[[int], None],
) -> NDArray[np.float64]:
    """Return Σ log p over the supervised tokens of each of n *rows*, in nats, (n,).

    Args:
        model: the model to call: the language model itself, or a PEFT model that wraps it.
        language_model: the language model in *model*. It gets a fused head, which ``Base`` removes when the block ends
            in which it lends the model.
        rows: the rows to score.
        micro_batch: rows that go through the model at once.
        autocast_dtype: the dtype of a bfloat16 or float16 base, else None. Head and softmax are float32 in any case.
        report: called with the number of rows done.
    """
    model.eval()
    add_fused_lm_head(language_model, cast_lm_head_to_fp32=True)
    device = next(language_model.parameters()).device
    order = np.argsort(-rows.lengths, kind="stable")  # (n,); the longest first, so that lack of memory shows at once
    sums = np.empty(len(rows), dtype=np.float64)
    autocast = (
        torch.autocast(device.type, dtype=autocast_dtype) if autocast_dtype is not None else contextlib.nullcontext()
    )
    with torch.no_grad(), autocast:
        for begin in range(0, len(rows), micro_batch):
            batch = order[begin : begin + micro_batch]  # (b,)
            inputs = {key: value.to(device) for key, value in collate([rows.example(i) for i in batch]).items()}
            with select_supervised(language_model, inputs.pop("labels")) as targets:  # (1, t)
                output = model(**inputs, shift_labels=targets, fused_lm_head=True)
            # (1, t) → b tensors, one per row
            by_row = output.log_probs.double().flatten().split(rows.n_supervised[batch].tolist())
            sums[batch] = [log_probs.sum().item() for log_probs in by_row]
            report(begin + len(batch))
    return sums
