"""Log-probabilities of rows under a model, and the held-out losses computed from them."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trl.trainer.utils import add_fused_lm_head

from agent.train.data.tokens import PairRows, TokenRows
from agent.train.kinds.loss import collate, select_supervised


def held_out_loss(
    model: Any, rows: TokenRows, *, micro_batch: int, autocast_dtype: Any | None, report: Callable[[int], None]
) -> tuple[float, int]:
    """Return the mean loss over all supervised tokens of *rows*, in nats per token, and the number of these tokens.

    The arguments are those of ``log_probabilities``.
    """
    n_tokens = int(rows.n_supervised.sum())
    log_probs = log_probabilities(
        model, model.get_base_model(), rows, micro_batch=micro_batch, autocast_dtype=autocast_dtype, report=report
    )  # (n,)
    return -float(log_probs.sum()) / n_tokens, n_tokens


@dataclass(frozen=True)
class Preference:
    """How a model judges held-out pairs.

    n_tokens: supervised tokens of both completions. loss: the mean of −log σ(margin), in nats per pair. accuracy: the
    share of pairs whose chosen completion has the higher reward. margin: the mean of r(chosen) − r(rejected).
    """

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
    autocast_dtype: Any | None,
    report: Callable[[int], None],
) -> Preference:
    """Evaluate the model on n *pairs* by the paper's loss, whichever loss is trained.

    A completion y has the reward r(y) = β (log π(y) − log π_ref(y)): Rafailov et al. 2023, section 4 and eq. 7.

    Args:
        model: a PEFT model, see ``log_probabilities``.
        pairs: the held-out pairs.
        reference: log π_ref of each pair's chosen and rejected completion, in nats, (n, 2).
        beta: β.
        micro_batch: completions that go through the model at once; a pair has two.
        autocast_dtype: see ``log_probabilities``.
        report: called with the number of pairs done.
    """
    log_probs = log_probabilities(
        model,
        model.get_base_model(),
        pairs.completions,
        micro_batch=micro_batch,
        autocast_dtype=autocast_dtype,
        report=lambda done: report(done // 2),
    )  # (2n,)
    rewards = beta * (log_probs.reshape(-1, 2) - reference)  # (n, 2)
    margins = rewards[:, 0] - rewards[:, 1]  # (n,)
    return Preference(
        n_tokens=int(pairs.completions.n_supervised.sum()),
        loss=float(np.logaddexp(0.0, -margins).mean()),
        accuracy=float((margins > 0).mean()),
        margin=float(margins.mean()),
    )


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
