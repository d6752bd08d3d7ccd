"""How likely a model finds rows: each one's log-probability, and the held-out loss."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trl.trainer.utils import add_fused_lm_head

from agent.train.loss import collate, only_supervised
from agent.train.tokens import PairRows, TokenRows


def held_out_loss(
    model: Any, rows: TokenRows, *, micro_batch: int, half: Any | None, report: Callable[[int], None]
) -> tuple[float, int]:
    """Mean loss over the supervised tokens of all *rows*, in nats a token, and how many these are.

    The arguments are those of ``log_probabilities``.
    """
    n_tokens = int((rows.lengths - rows.starts).sum())
    found = log_probabilities(model, model.get_base_model(), rows, micro_batch=micro_batch, half=half, report=report)
    return -float(found.sum()) / n_tokens, n_tokens


def held_out_preference(
    model: Any, pairs: PairRows, *, beta: float, micro_batch: int, half: Any | None, report: Callable[[int], None]
) -> tuple[float, int, float]:
    """Mean loss of direct preference optimisation over all *pairs*, how many supervised tokens their sides have, and
    the share of pairs whose chosen side has the higher reward.

    A side's reward is r = β (log π(side) − log π_ref(side)), π_ref the base without the adapter, and a pair's loss
    −log σ(r_chosen − r_rejected): Rafailov et al. 2023, section 4 and eq. 7. report: called with the pairs done; the
    other arguments are those of ``log_probabilities``, a pair being two rows.
    """
    base, sides = model.get_base_model(), pairs.sides

    def found(done_before: int) -> NDArray[np.float64]:
        return log_probabilities(
            model,
            base,
            sides,
            micro_batch=micro_batch,
            half=half,
            report=lambda done: report((done_before + done) // 4),
        )

    adapted = found(0)
    with model.disable_adapter():
        rewards = beta * (adapted - found(len(sides)))
    margins = rewards[0::2] - rewards[1::2]
    n_tokens = int((sides.lengths - sides.starts).sum())
    return float(np.logaddexp(0.0, -margins).mean()), n_tokens, float((margins > 0).mean())


def log_probabilities(
    model: Any, base: Any, rows: TokenRows, *, micro_batch: int, half: Any | None, report: Callable[[int], None]
) -> NDArray[np.float64]:
    """Each row's Σ log p over its supervised tokens, in nats, (n,).

    model: what is called; base: the language model in it, which a PEFT model wraps. Both are lent by ``Base``, which
    takes the fused head off again. half: the base's dtype where it is bfloat16 or float16; the head and the softmax are
    float32 all the same. report: called with the rows done.
    """
    model.eval()
    add_fused_lm_head(base, cast_lm_head_to_fp32=True)
    device = next(base.parameters()).device
    order = np.argsort(-rows.lengths, kind="stable")  # the longest first: if memory is short, it shows at once
    sums = np.empty(len(rows), dtype=np.float64)
    autocast = torch.autocast(device.type, dtype=half) if half is not None else contextlib.nullcontext()
    with torch.no_grad(), autocast:
        for begin in range(0, len(rows), micro_batch):
            some = order[begin : begin + micro_batch]
            inputs = {key: value.to(device) for key, value in collate([rows.example(i) for i in some]).items()}
            with only_supervised(base, inputs.pop("labels")) as targets:
                output = model(**inputs, shift_labels=targets, fused_lm_head=True)
            by_row = output.log_probs.double().flatten().split((rows.lengths - rows.starts)[some].tolist())
            sums[some] = [part.sum().item() for part in by_row]
            report(begin + len(some))
    return sums
