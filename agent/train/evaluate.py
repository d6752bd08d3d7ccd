"""The held-out loss of a model."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from trl.trainer.utils import add_fused_lm_head

from agent.train.loss import collate, only_supervised
from agent.train.tokens import TokenRows


def held_out_loss(
    model: Any, rows: TokenRows, *, micro_batch: int, half: Any | None, report: Callable[[int], None]
) -> tuple[float, int]:
    """Mean loss over the supervised tokens of all *rows*, in nats a token, and how many these are.

    model: a PEFT model lent by ``Base``, which takes the fused head off again. half: the base's dtype where it is
    bfloat16 or float16; the head and the softmax are float32 all the same. report: called with the rows done.
    """
    base = model.get_base_model()
    model.eval()
    add_fused_lm_head(base, cast_lm_head_to_fp32=True)
    device = next(base.parameters()).device
    order = np.argsort(-rows.lengths, kind="stable")  # the longest first: if memory is short, it shows at once
    total, n_tokens = 0.0, 0
    autocast = torch.autocast(device.type, dtype=half) if half is not None else contextlib.nullcontext()
    with torch.no_grad(), autocast:
        for begin in range(0, len(rows), micro_batch):
            some = order[begin : begin + micro_batch]
            inputs = {key: value.to(device) for key, value in collate([rows.example(i) for i in some]).items()}
            with only_supervised(base, inputs.pop("labels")) as targets:
                output = model(**inputs, shift_labels=targets, fused_lm_head=True)
            total -= output.log_probs.double().sum().item()
            n_tokens += targets.numel()
            report(begin + len(some))
    return total / n_tokens, n_tokens
