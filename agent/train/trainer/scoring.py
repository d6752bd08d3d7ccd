"""Log-probabilities of rows under a model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trl.trainer.utils import add_fused_lm_head

from agent.train.base.device import autocast
from agent.train.data.tokens import TokenRows
from agent.train.trainer.loss import collate, score_only_supervised


def add_head(language_model: Any) -> None:
    """Give the model a head, in float32, that scores supervised positions only.

    ``Base`` removes it when the block ends in which it lends the model.
    """
    language_model.config.get_text_config().output_router_logits = False  # their loss is not that of the tokens
    add_fused_lm_head(language_model, cast_lm_head_to_fp32=True)
    score_only_supervised(language_model)


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
        language_model: the language model in *model*, which gets a head.
        rows: the rows to score.
        micro_batch: rows that go through the model at once.
        autocast_dtype: the dtype of a bfloat16 or float16 base, else None. Head and softmax are float32 in any case.
        report: called with the number of rows done.
    """
    model.eval()
    add_head(language_model)
    device = next(language_model.parameters()).device
    order = np.argsort(-rows.lengths, kind="stable")  # (n,); the longest first, so that lack of memory shows at once
    sums = np.empty(len(rows), dtype=np.float64)
    with torch.no_grad(), autocast(device, autocast_dtype):
        for begin in range(0, len(rows), micro_batch):
            batch = order[begin : begin + micro_batch]  # (b,)
            inputs = {key: value.to(device) for key, value in collate([rows.example(i) for i in batch]).items()}
            output = model(**inputs, fused_lm_head=True)
            sums[batch] = output.log_probs.double().sum(dim=1).tolist()  # (b, tokens − 1) → (b,)
            report(begin + len(batch))
    return sums
