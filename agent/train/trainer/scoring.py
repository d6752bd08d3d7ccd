"""Log-probabilities of rows under a model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from trl.trainer.utils import add_fused_lm_head

from agent.train.base.device import autocast
from agent.train.data.tokens import TokenRows
from agent.train.trainer.loss import collate, score_only_supervised
from agent.train.trainer.need import CPU_TOKENS


@dataclass(frozen=True)
class Scoring:
    """How rows go through a model.

    Args:
        micro_batch: completions that go through the model at once.
        autocast_dtype: the base's dtype if it is bfloat16 or float16, else None.
        report: called with the number of completions done.
        scorer: computes the log-probabilities; None: Fedloom's own way.
        together: completions of a row, which follow one another and go through the model together.
    """

    micro_batch: int
    autocast_dtype: torch.dtype | None
    report: Callable[[int], None]
    scorer: "Scorer | None" = None
    together: int = 1

    def log_probabilities(self, model: Any, rows: TokenRows) -> NDArray[np.float64]:
        """Return Σ log p over the supervised tokens of each of n *rows*, in nats, (n,).

        model: a PEFT model, or a bare language model.
        """
        return (self.scorer or plain_scorer)(model, rows, self)


Scorer = Callable[[Any, TokenRows, Scoring], NDArray[np.float64]]
"""Computes what ``Scoring.log_probabilities`` returns."""


def plain_scorer(model: Any, rows: TokenRows, scoring: Scoring) -> NDArray[np.float64]:
    """Fedloom's own way: ``log_probabilities``."""
    return log_probabilities(
        model,
        model.get_base_model() if isinstance(model, PeftModel) else model,
        rows,
        micro_batch=scoring.micro_batch,
        autocast_dtype=scoring.autocast_dtype,
        report=scoring.report,
        together=scoring.together,
    )


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
    together: int = 1,
) -> NDArray[np.float64]:
    """Return Σ log p over the supervised tokens of each of n *rows*, in nats, (n,).

    Args:
        model: the model to call: the language model itself, or a PEFT model that wraps it.
        language_model: the language model in *model*, which gets a head.
        rows: the rows to score.
        micro_batch: the most rows that go through the model at once; fewer do on a CPU, see ``CPU_TOKENS``.
        autocast_dtype: the dtype of a bfloat16 or float16 base, else None. Head and softmax are float32 in any case.
        report: called with the number of rows done.
        together: of neighbouring rows, which divide n and go through the model together: the completions of one row.
    """
    model.eval()
    add_head(language_model)
    device = next(language_model.parameters()).device
    sums = np.empty(len(rows), dtype=np.float64)
    with torch.no_grad(), autocast(device, autocast_dtype):
        done = 0
        for batch in _batches(rows, together, micro_batch, on_cpu=device.type == "cpu"):  # (b,)
            inputs = {key: value.to(device) for key, value in collate([rows.example(int(i)) for i in batch]).items()}
            output = model(**inputs, fused_lm_head=True)
            sums[batch] = output.log_probs.double().sum(dim=1).tolist()  # (b, tokens − 1) → (b,)
            done += len(batch)
            report(done)
    return sums


def _batches(rows: TokenRows, together: int, micro_batch: int, *, on_cpu: bool) -> Iterator[NDArray[np.int64]]:
    """The rows of each batch, the longest first, so that lack of memory shows at once; as in ``log_probabilities``."""
    groups = np.arange(len(rows)).reshape(-1, together)  # (n / together, together)
    longest = rows.lengths[groups].max(axis=1)
    order = np.argsort(-longest, kind="stable")
    begin = 0
    while begin < len(order):
        n_groups = max(1, micro_batch // together)
        if on_cpu:
            n_groups = min(n_groups, max(1, CPU_TOKENS // int(together * longest[order[begin]])))
        yield groups[order[begin : begin + n_groups]].ravel()
        begin += n_groups
