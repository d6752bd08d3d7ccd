"""How likely a model finds rows: each one's log-probability, and the held-out loss."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trl.trainer.utils import add_fused_lm_head

from agent.train.data.tokens import PairRows, TokenRows
from agent.train.kinds.loss import collate, only_supervised


def held_out_loss(
    model: Any, rows: TokenRows, *, micro_batch: int, half: Any | None, report: Callable[[int], None]
) -> tuple[float, int]:
    """Mean loss over the supervised tokens of all *rows*, in nats a token, and how many these are.

    The arguments are those of ``log_probabilities``.
    """
    n_tokens = int(rows.n_supervised.sum())
    found = log_probabilities(model, model.get_base_model(), rows, micro_batch=micro_batch, half=half, report=report)
    return -float(found.sum()) / n_tokens, n_tokens


@dataclass(frozen=True)
class Preference:
    """How a model judges held-out pairs. n_tokens: supervised ones, of both sides. loss: the mean of −log σ(margin), in
    nats a pair; accuracy: the share of pairs whose chosen side has the higher reward; margin: the mean of r(chosen) −
    r(rejected)."""

    n_tokens: int
    loss: float
    accuracy: float
    margin: float


def held_out_preference(
    model: Any,
    pairs: PairRows,
    reference: NDArray[np.float64],
    *,
    beta: float,
    micro_batch: int,
    half: Any | None,
    report: Callable[[int], None],
) -> Preference:
    """How the model judges all *pairs*, by the paper's loss whichever is trained.

    A side's reward is r = β (log π(side) − log π_ref(side)): Rafailov et al. 2023, section 4 and eq. 7. reference: log
    π_ref of each pair's sides, (n, 2). report: called with the pairs done; the other arguments are those of
    ``log_probabilities``, a pair being two rows.
    """
    found = log_probabilities(
        model,
        model.get_base_model(),
        pairs.completions,
        micro_batch=micro_batch,
        half=half,
        report=lambda done: report(done // 2),
    )
    rewards = beta * (found.reshape(-1, 2) - reference)
    margins = rewards[:, 0] - rewards[:, 1]
    completions = pairs.completions
    return Preference(
        n_tokens=int(completions.n_supervised.sum()),
        loss=float(np.logaddexp(0.0, -margins).mean()),
        accuracy=float((margins > 0).mean()),
        margin=float(margins.mean()),
    )


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
            by_row = output.log_probs.double().flatten().split(rows.n_supervised[some].tolist())
            sums[some] = [part.sum().item() for part in by_row]
            report(begin + len(some))
    return sums
